# build, test and install; `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
SWIFT ?= swift
SOURCES := Package.swift Sources Tests

.PHONY: help build test sanitize fuzz soak bench check fmt install uninstall clean

help:
	@sed -n 's/^## //p' Makefile

## build      the release executables, in .build/release
build:
	$(SWIFT) build -c release --product inventoryfs
	$(SWIFT) build -c release --product s3-origin

## test       everything, real mounts included (installs what it needs)
test:
	Tests/run

## sanitize   unit tests and mounts under ThreadSanitizer and AddressSanitizer
sanitize:
	Tests/sanitize thread
	Tests/sanitize address

## fuzz       libFuzzer on each decoder of foreign bytes, SECONDS (60) for each
SECONDS ?= 60
fuzz:
	Tests/fuzz $(SECONDS)

## soak       readers, faults and restarts on a real mount for MINUTES (10)
MINUTES ?= 10
soak:
	Tests/soak --minutes $(MINUTES)

## bench      the comparison with rclone mount and s3fs (installs what it needs)
bench:
	Benchmarks/run

## check      formatting, and a build in which a warning is an error
check:
	$(SWIFT) format lint --strict --recursive $(SOURCES)
	$(SWIFT) build -Xswiftc -warnings-as-errors --build-tests

## fmt        formats the sources in place
fmt:
	$(SWIFT) format --in-place --recursive $(SOURCES)

## install    into $(DESTDIR)$(PREFIX)/bin, with Swift's runtime linked in: the machine needs no toolchain
install:
	$(SWIFT) build -c release --static-swift-stdlib --product inventoryfs
	install -D -m 0755 "$$($(SWIFT) build -c release --static-swift-stdlib --show-bin-path)/inventoryfs" \
		"$(DESTDIR)$(PREFIX)/bin/inventoryfs"

uninstall:
	rm -f "$(DESTDIR)$(PREFIX)/bin/inventoryfs"

## clean      removes what was built
clean:
	$(SWIFT) package clean
