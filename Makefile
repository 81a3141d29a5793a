# Everything here needs Go, make and git; the kafka targets and the real-Kafka suites also Java 17 and Maven; the client libraries of
# test/clients a JDK, Python with pip, Node with npm, and kcat.
# .ci/run is what CI runs: it installs the rest and forces every suite.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
TAGS        = -tags synctests
# The race detector needs a C compiler; a machine without one tests without it.
RACE       := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
FUZZTIME   ?= 10s
BENCH      ?= .
BENCHPKG   ?= ./...
SEED       ?= 1
MINUTES    ?= 10

.PHONY: help run drill build test check bench bench-router fuzz model nemesis clients proto kafka-up kafka-down clean

help:            ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

run: build       ## three embedded data centers that mirror each other, with a live table
	bin/isthmus demo

drill: build     ## a drill on embedded clusters: move the clients of a router to another cluster and back, and print the report
	bin/isthmus demo --drill

build:           ## bin/isthmus
	CGO_ENABLED=0 go build -trimpath -o bin/isthmus ./cmd/isthmus

test:            ## all tests that need nothing but Go; ISTHMUS_KAFKA=1 adds real Kafka
	go test $(RACE) $(TAGS) -timeout 20m ./...
ifeq ($(RACE),)
	@echo "make test: ran without the race detector, because there is no C compiler"
endif
ifeq ($(ISTHMUS_KAFKA)$(ISTHMUS_REQUIRE_KAFKA),)
	@echo "make test: skipped the real-Kafka suites; ISTHMUS_KAFKA=1 make test runs them (Java 17, Maven)"
endif

check:           ## format, vet, staticcheck, tidy module
	@test -z "$$(gofmt -l .)" || { echo "not formatted (gofmt -w):"; gofmt -l .; exit 1; }
	go vet $(TAGS) ./...
	go run $(STATICCHECK) $(TAGS) ./...
	go mod tidy -diff

bench:           ## Isthmus beside a TCP relay and MirrorMaker 2 on real Kafka (writes docs/benchmarks.md), then the micro-benchmarks
	ISTHMUS_BENCH=1 ISTHMUS_REQUIRE_KAFKA=1 go test -run "TestBench|TestPositions|TestGroups" -count=1 -timeout 30m -v ./test/bench
	go test $(TAGS) -run '^$$' -bench '$(BENCH)' -benchmem -p 1 -timeout 60m $(BENCHPKG)

bench-router:    ## the router beside no proxy and, if ISTHMUS_KAFKA_PROXY is its binary, kafka-proxy, on real Kafka (writes docs/benchmarks.md)
	TMPDIR=$${TMPDIR:-/dev/shm} ISTHMUS_BENCH=1 ISTHMUS_REQUIRE_KAFKA=1 go test -run 'TestRouter$$' -count=1 -timeout 30m -v ./test/bench

fuzz:            ## every fuzz target for FUZZTIME
	scripts/fuzz.sh $(FUZZTIME)

model:           ## the switch of a router, as spin sees it (needs spin and gcc)
	router/switchover/model/run.sh

nemesis:         ## faults by seeds from SEED on: MINUTES of virtual time, two a seed; as many real ones on real Kafka if ISTHMUS_KAFKA=1
	ISTHMUS_NEMESIS_SEED=$(SEED) ISTHMUS_NEMESIS_MINUTES=2 ISTHMUS_SEEDS=$$((($(MINUTES)+1)/2)) \
		go test $(RACE) $(TAGS) -count=1 -timeout 10h -v -run 'TestVirtual$$' ./test/nemesis
	ISTHMUS_REAL_SEED=$(SEED) ISTHMUS_NEMESIS_MINUTES=$(MINUTES) ISTHMUS_SOAK=1 go test -count=1 -timeout 10h -v ./test/nemesis/real

clients:         ## client libraries directly and through a router, on real Kafka of two releases (writes docs/clients.md)
	ISTHMUS_CLIENTS=all ISTHMUS_REQUIRE_KAFKA=1 go test -count=1 -timeout 2h -v ./test/clients

proto:           ## generate the admin API from its .proto
	scripts/proto.sh

kafka-up:        ## two real one-broker clusters: eu on 127.0.0.1:19292, us on 127.0.0.1:19392
	scripts/kafka/kafka.sh up eu 19292
	scripts/kafka/kafka.sh up us 19392

kafka-down:      ## stop them; their data stays
	scripts/kafka/kafka.sh down eu
	scripts/kafka/kafka.sh down us

clean:           ## remove what was built, and the data of kafka-up
	rm -rf bin .kafka/run
