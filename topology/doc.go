// Package topology turns the TOML file that describes a fabric into an immutable value and answers, purely, the
// questions everything else asks of it: which links there are, which topics a link takes, over which links a record of
// one origin reaches a cluster, and what a producer id says about who wrote a batch.
//
// # Guarantees
//
//   - A Topology that Parse returned is complete and consistent: names are unique, links join known clusters, patterns
//     compile, no two clusters share a tag in the producer id. Nothing in it changes afterwards; all methods may be
//     called from any goroutine.
//   - Errors are Errors: every fault of a file at once, each as "file:line:column: what; what to do".
//   - Each (origin, target, topic) has at most one route, and the route to a cluster on the way is the beginning of the
//     route through it. So if every link copies only what Carries allows, a record arrives at each cluster that can be
//     reached exactly once, whatever the shape of the graph.
//   - Names that a link gives to topics can be told both ways (Link.TargetTopic, Link.SourceTopic), and a file in which they would meet,
//     come twice or grow for ever is refused. A route is followed by the names that the topic has on its way.
//   - Secrets are references (file:PATH or env:NAME). A literal secret is refused and never printed.
//   - No login crosses a network in clear unless the cluster says insecure = true; what is fetched for a login is fetched
//     by https. (Loopback is exempt. What a name leads to is looked at again by broker, when it is dialled.)
//   - Settings change the file's tree before it is read (Source.Overlay), so that what runs is checked as a file is, whoever changed it;
//     a fault then names the setting's key. They can change clusters, links, routers and rules, and nothing that belongs to a
//     node's own file. What settings would do is known before they are written (Plan), in full, or all that is wrong is.
//   - A short form ([[mesh]], [[hub]]) is read as the links that it stands for, before anything else is: settings, routes, Diff and
//     Export know links only, and Export writes them out. A fault of one names the short form's line.
//   - Export reads as the same topology, and applying it changes nothing.
//   - Reading is bounded: a file over MaxFileBytes is refused before it is parsed.
//
// Relative paths in a file (embedded.dir, file: references) are relative to the folder the file lies in, so that a node
// finds them whatever its working directory is.
//
// # The parser
//
// github.com/pelletier/go-toml/v2/unstable does the lexing: of the well-kept TOML libraries it alone gives the
// position of every key and value (BurntSushi/toml only that of its first error), and its nesting is bounded. The tree
// on top of it (tree.go) applies TOML's rules about tables set twice, and goes on behind a line that does not parse, so
// that one missing quote does not hide the other mistakes.
package topology
