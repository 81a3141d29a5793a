// Package real is the nemesis over real brokers and processes: mirrors are killed and stopped, brokers are killed, networks fail in every way,
// records are deleted, topics are made anew and grow, settings and policies change, by a seed, and the checker judges. In the long run one
// cluster has three brokers and the other one a disk that gets full. A node's clock is shifted in the virtual form only: a process has that
// of its machine. ISTHMUS_REAL_SEED repeats a schedule; ISTHMUS_SOAK=1 asks for ISTHMUS_NEMESIS_MINUTES of it, default 30.
package real
