# build, test and install; `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
SWIFT ?= swift
SOURCES := Package.swift Sources Tests

.PHONY: help build test sanitize fuzz soak bench check check-all fmt install uninstall clean

help:
	@sed -n 's/^## //p' Makefile

## build      the release executables, in .build/release
build:
	$(SWIFT) build -c release --product inventoryfs
	$(SWIFT) build -c release --product s3-origin

## test       all tests, including those on real mounts (installs missing packages)
test:
	Tests/run

## sanitize   unit tests and tests on mounts with ThreadSanitizer and AddressSanitizer
sanitize:
	Tests/sanitize thread
	Tests/sanitize address

## fuzz       libFuzzer on each decoder of untrusted bytes, SECONDS (60) for each
SECONDS ?= 60
fuzz:
	Tests/fuzz $(SECONDS)

## soak       readers, faults and restarts on a real mount, for MINUTES (10)
MINUTES ?= 10
soak:
	Tests/soak --minutes $(MINUTES)

## bench      the comparison with rclone mount and s3fs (installs missing packages)
bench:
	Benchmarks/run

## check      formatting, names in the documents, and a build in which a warning is an error
check:
	Tests/check-docs
	$(SWIFT) format lint --strict --recursive $(SOURCES)
	$(SWIFT) build -Xswiftc -warnings-as-errors --build-tests

## check-all  everything, about 90 minutes: check, all tests, again with sanitizers, and each fuzz target
check-all: check
	.ci/run

## fmt        formats the Swift sources in place
fmt:
	$(SWIFT) format --in-place --recursive $(SOURCES)

## install    into $(DESTDIR)$(PREFIX)/bin, with Swift's runtime linked in (no toolchain needed to run it)
install:
	$(SWIFT) build -c release --static-swift-stdlib --product inventoryfs
	install -D -m 0755 "$$($(SWIFT) build -c release --static-swift-stdlib --show-bin-path)/inventoryfs" \
		"$(DESTDIR)$(PREFIX)/bin/inventoryfs"

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/inventoryfs"

## clean      removes the build products
clean:
	$(SWIFT) package clean
