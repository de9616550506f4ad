# What developers type. .ci/run is everything at once, as CI runs it.

GOLANGCI = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.PHONY: build test race cron lint demo bench fuzz man package ci clean

build: # into ./adt, as it is released
	go build -trimpath -ldflags '-s -w' -o adt .

test: # what the README says
	go test ./...

race: # a shorter run with the race detector
	ADT_SCHEDULES=40 go test -race -short ./...

cron: # adt under the real cron; root, three minutes
	ADT_REQUIRE=cron go test -count=1 -v ./e2e/cron

lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt -w:" $$(gofmt -l .); exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go run $(GOLANGCI) run ./...

demo:
	go run . demo

bench: # the figures of BENCHMARKS.md
	go test ./bench ./autoscaler ./e2e -run '^$$' -bench .

fuzz: # FUZZ_TIME for each target
	.ci/fuzz $(or $(FUZZ_TIME),30s)

man: # all manual pages, into dist/man
	go run . man --out dist/man

package: # dist/adt_<version>_<architecture>.deb; .ci/package also installs and removes it
	packaging/build

ci:
	.ci/run

clean:
	rm -rf adt dist
