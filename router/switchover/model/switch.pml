/* The switch of a router's set: rounds, leases, and the steps of its coordinators. README.md beside it maps it to the code.
 *
 * GO(a, b) is a step of a coordinator. The test of router/switchover reads them: its machine goes these ways and no others.
 *
 * -DNO_WAIT     leases are not waited for           the model must fail
 * -DEARLY       commits before the final mirror     the model must fail
 * -DNO_ANSWER   answers pass without a lease        the model must fail
 * -DSMALL       fewer states: a reading finds both logs at one moment, not before its lease begins, and only one router's lease ends by itself
 * -DREACH       nothing is broken, and it must fail too: generation 2 is reached with a tail of the home before
 */
#ifndef BALLOTS
#define BALLOTS 2 /* attempts of all coordinators together; the last is not disturbed */
#endif
#define ROUNDS  (BALLOTS + 1)
#define LOGS    3
#define ROUTERS 2
#define COORDS  2

#define STAY      0
#define PLANNED   1
#define UNPLANNED 2

mtype = { idle, preflight, prepare, hold, drain, cut, mirror, commit, release, verify, rollback };

/* What is durable. A log has the decisions of so many rounds, and is the acceptor of the next. */
byte dec[LOGS];
byte promised[LOGS];
byte accb[LOGS];
byte acck[LOGS]; /* kind of what was accepted; its home follows from the one before */

/* What is true, whoever knows it. */
byte count[BALLOTS + 1]; /* accepts of a ballot that count */
byte decided;            /* rounds that are */
byte kindOf[ROUNDS + 1];
byte gen[ROUNDS + 1];    /* after so many rounds */
bit  home[ROUNDS + 1];
byte newest;             /* generation of which somebody ever had a lease */
byte ballots;            /* ballots that were given */

/* Records that a cluster acknowledged and the other does not have: those that are mirrored in time, and the tail of a home that was lost. */
bool behind[2];
bool tail[2];

/* Routers. */
bool lease[ROUTERS];
byte knows[ROUTERS]; /* rounds, by its lease */
bool held[ROUTERS];  /* it found a round open, and takes no new writes */
byte heldRound[ROUTERS];
bool flying[ROUTERS]; /* a write that the home has, and the client does not know of */
bool reading[ROUTERS];

/* Leases and readings that began before a coordinator had prepared. */
bool oldLease[ROUTERS * COORDS];
bool oldReading[ROUTERS * COORDS];

/* Coordinators. */
mtype step[COORDS] = idle;
byte  round[COORDS];
bool  waited[COORDS];
bool  acked[ROUTERS * COORDS];

#define GO(a, b) assert(step[c] == a); step[c] = b

/* What is flying when a lease ends is never acknowledged. */
#ifdef NO_ANSWER
#define END(r) skip
#else
#define END(r) knows[r] = 0; flying[r] = false
#endif

/* A record of round n puts the decisions before it in front, so that the log is the acceptor of n. */
inline reach(i, n) {
	if
	:: dec[i] < n - 1 -> dec[i] = n - 1; promised[i] = 0; accb[i] = 0; acck[i] = 0
	:: else
	fi
}

inline forget() {
	round[c] = 0; waited[c] = false; b = 0; i = 0; n = 0; taken = 0; takenKind = 0; kind = 0;
	acked[c] = false; acked[COORDS + c] = false; oldLease[c] = false; oldLease[COORDS + c] = false; oldReading[c] = false; oldReading[COORDS + c] = false
}

/* A coordinator is lost at any step, but for the last ballot: somebody goes on in the end. Lost between the records of one step is the same as not reaching the
 * rest of the logs, and lost afterwards. */
#define LOST b != BALLOTS -> goto lost

proctype coordinator(byte c) {
	byte b, i, n, taken, takenKind, kind;
end:
	do
	:: atomic { step[c] == idle && ballots < BALLOTS && (ballots > 0 || c == 0) -> /* who is the first is the same */
		GO(idle, preflight);
		/* It read a majority: one log is left out. */
		if
		:: round[c] = (dec[0] > dec[1] -> dec[0] : dec[1]) + 1
		:: round[c] = (dec[0] > dec[2] -> dec[0] : dec[2]) + 1
		:: round[c] = (dec[1] > dec[2] -> dec[1] : dec[2]) + 1
		fi;
		if
		:: kind = UNPLANNED
		/* A home that comes back is behind until its tail is delivered: nothing planned before. */
		:: tail[0] = false; tail[1] = false; kind = PLANNED
		fi;
		if
		:: ballots++; b = ballots; GO(preflight, prepare)
		:: GO(preflight, idle); forget(); goto again /* refused */
		fi }
		i = 0; n = 0;
		do
		:: atomic { i < LOGS ->
			if
			:: b != BALLOTS -> skip /* away */
			:: true -> reach(i, round[c]);
				if
				:: dec[i] == round[c] - 1 && b > promised[i] ->
					promised[i] = b; n++;
					if
					:: accb[i] > taken -> taken = accb[i]; takenKind = acck[i]
					:: else
					fi
				:: else
				fi
			fi;
			i++ }
		:: i == LOGS -> break
		od;
		if
		:: atomic { n < 2 -> GO(prepare, idle); forget() } goto again /* another was faster, or too few are there */
		:: atomic { n >= 2 ->
			i = 0; n = 0;
			do
			:: i < ROUTERS -> oldLease[i * COORDS + c] = lease[i]; oldReading[i * COORDS + c] = reading[i]; i++
			:: else -> break
			od;
			i = 0;
			if
			:: taken != 0 -> kind = takenKind; taken = 0; takenKind = 0; GO(prepare, commit) /* it may be decided */
			:: taken == 0 -> GO(prepare, hold)
			:: taken == 0 -> GO(prepare, rollback); kind = STAY
			fi }
		fi;
		do
		:: atomic { step[c] == hold && !waited[c] ->
			waited[c] = true;
#ifndef NO_WAIT
			/* So much time has gone by that leases of before are over, also those that a reading of before would give. */
			i = 0;
			do
			:: i < ROUTERS ->
				if :: oldLease[i * COORDS + c] -> lease[i] = false; END(i) :: else fi;
				if :: oldReading[i * COORDS + c] -> reading[i] = false :: else fi;
				i++
			:: else -> break
			od;
			i = 0
#endif
			}
		:: atomic { step[c] == hold && (waited[c] || (acked[c] && acked[COORDS + c])) && kind == PLANNED -> GO(hold, drain) }
		:: atomic { step[c] == hold && (waited[c] || (acked[c] && acked[COORDS + c] && !flying[0] && !flying[1])) && kind == UNPLANNED -> GO(hold, cut) }
		/* What is still flying where the lease is over is never acknowledged. */
		:: atomic { step[c] == drain && (!flying[0] || waited[c]) && (!flying[1] || waited[c]) -> GO(drain, cut) }
		:: atomic { step[c] == cut && kind == PLANNED -> GO(cut, mirror) }
		:: atomic { step[c] == cut && kind == UNPLANNED -> GO(cut, commit) }
		:: atomic { step[c] == mirror ->
#ifndef EARLY
			behind[home[round[c] - 1]] = false;
#endif
			GO(mirror, commit) }
		/* What takes too long, or is asked to end. */
		:: atomic { step[c] == hold -> GO(hold, rollback); kind = STAY }
		:: atomic { step[c] == drain -> GO(drain, rollback); kind = STAY }
		:: atomic { step[c] == cut -> GO(cut, rollback); kind = STAY }
		:: atomic { step[c] == mirror -> GO(mirror, rollback); kind = STAY }
		:: step[c] == commit || step[c] == rollback -> break
		/* Overtaken, or lost: it is the same to all others. */
		:: atomic { step[c] == hold && b != BALLOTS -> GO(hold, idle); forget(); goto again }
		:: atomic { step[c] == drain && b != BALLOTS -> GO(drain, idle); forget(); goto again }
		:: atomic { step[c] == cut && b != BALLOTS -> GO(cut, idle); forget(); goto again }
		:: atomic { step[c] == mirror && b != BALLOTS -> GO(mirror, idle); forget(); goto again }
		od;
		i = 0;
		do
		:: atomic { i < LOGS ->
			if
			:: b != BALLOTS -> skip
			:: true -> reach(i, round[c]);
				if
				:: dec[i] == round[c] - 1 && b >= promised[i] ->
					accb[i] = b; acck[i] = kind; count[b]++;
					if
					:: count[b] == 2 ->
						/* It is decided: never two values in a round, and nothing acknowledged is left behind in a planned one. */
						assert(decided < round[c] || kindOf[round[c]] == kind);
						assert(decided + 1 >= round[c]);
						if
						:: decided < round[c] ->
							decided = round[c]; kindOf[decided] = kind;
							gen[decided] = gen[decided - 1] + (kind != STAY);
#ifdef REACH
							assert(gen[decided] < 2 || !tail[0]);
#endif
							home[decided] = (kind != STAY -> 1 - home[decided - 1] : home[decided - 1]);
							assert(kind != PLANNED || !behind[home[decided - 1]]);
							if
							:: kind == UNPLANNED ->
								/* What was not mirrored in time is its tail: it may be nothing. */
								if
								:: tail[home[decided - 1]] = tail[home[decided - 1]] || behind[home[decided - 1]]
								:: true
								fi;
								behind[home[decided - 1]] = false
							:: else
							fi
						:: else
						fi
					:: else
					fi
				:: else
				fi
			fi;
			i++ }
		:: i == LOGS -> break
		od;
		if
		:: atomic { decided < round[c] || kindOf[round[c]] != kind ->
			assert(b != BALLOTS || decided >= round[c]); /* who is left alone gets it decided */
			if
			:: step[c] == commit -> GO(commit, idle)
			:: step[c] == rollback -> GO(rollback, idle)
			fi;
			forget() } goto again
		:: atomic { decided >= round[c] && kindOf[round[c]] == kind ->
			if
			:: step[c] == commit -> GO(commit, release)
			:: step[c] == rollback -> GO(rollback, verify)
			fi }
		fi;
		if
		:: atomic { step[c] == release ->
			i = 0;
			do
			:: i < LOGS && b != BALLOTS -> i++
			:: i < LOGS -> reach(i, round[c] + 1); i++
			:: i == LOGS -> break
			od;
			GO(release, verify) }
		:: atomic { step[c] == verify ->
			i = 0;
			do
			:: i < LOGS && b != BALLOTS -> i++
			:: i < LOGS -> reach(i, round[c] + 1); i++
			:: i == LOGS -> break
			od }
		:: LOST
		fi;
		atomic { GO(verify, idle); forget() }
		goto again;
lost:		atomic { step[c] = idle; forget() }
again:		skip
	od
}

/* What a reading finds in one log: the decisions, and whether a round is open. */
inline look(i) {
	if :: dec[i] > found -> found = dec[i] :: else fi;
	if :: (promised[i] != 0 || accb[i] != 0) && dec[i] + 1 > open -> open = dec[i] + 1 :: else fi
}

/* A lease that is renewed where nothing is new is the same lease, so only other readings are looked at. */
#define NEWS_AT(i) dec[i] > knows[r] || (dec[i] == knows[r] && (promised[i] != 0 || accb[i] != 0))
#define NEWS       (NEWS_AT(0) || NEWS_AT(1) || NEWS_AT(2))

#ifdef SMALL
#define ENDS(r) r == 0
#else
#define ENDS(r) true
#endif

proctype router(byte r) {
	byte found, open, first;
end:
	do
	/* It reads two of three logs, one after the other. */
	:: atomic { !reading[r] && (!lease[r] || held[r] || NEWS) -> reading[r] = true; oldReading[r * COORDS] = false; oldReading[r * COORDS + 1] = false;
#ifndef SMALL
		if :: first = 0 :: first = 1 :: first = 2 fi;
		look(first)
#endif
		}
		if
		:: atomic { reading[r] ->
#ifdef SMALL
			if :: first = 0 :: first = 1 :: first = 2 fi;
			look(first);
#endif
			if
			:: true -> look((first + 1) % LOGS)
			:: true -> look((first + 2) % LOGS)
			fi;
			reading[r] = false;
			if
			:: open > found -> held[r] = true; heldRound[r] = open /* the lease it has goes on, for answers */
			:: else ->
				held[r] = false; heldRound[r] = 0;
				/* A lease of other writes than those that are flying. */
				if :: gen[knows[r]] != gen[found] -> flying[r] = false :: else fi;
				lease[r] = true; knows[r] = found;
				oldLease[r * COORDS] = oldReading[r * COORDS]; oldLease[r * COORDS + 1] = oldReading[r * COORDS + 1];
				if :: gen[found] > newest -> newest = gen[found] :: else fi
			fi;
			oldReading[r * COORDS] = false; oldReading[r * COORDS + 1] = false;
			found = 0; open = 0; first = 0 }
		:: atomic { !reading[r] -> found = 0; open = 0; first = 0 }
		fi
	:: atomic { lease[r] && !held[r] && !flying[r] -> flying[r] = true }
	/* An acknowledgement: only at one home at a time. */
	:: atomic { flying[r] -> assert(gen[knows[r]] == newest); behind[home[knows[r]]] = true; flying[r] = false }
	/* A lease ends, or the router does. */
	:: atomic { lease[r] && ENDS(r) -> lease[r] = false; END(r); oldLease[r * COORDS] = false; oldLease[r * COORDS + 1] = false }
	:: atomic { held[r] && step[0] == hold && heldRound[r] == round[0] && !acked[r * COORDS] -> acked[r * COORDS] = true }
	:: atomic { held[r] && step[1] == hold && heldRound[r] == round[1] && !acked[r * COORDS + 1] -> acked[r * COORDS + 1] = true }
	od
}

init {
	atomic { run coordinator(0); run coordinator(1); run router(0); run router(1) }
}
