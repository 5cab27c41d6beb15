# build, test and install; `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
SWIFT ?= swift
SOURCES := Package.swift Sources Tests

.PHONY: help build check test check-all sanitize fuzz soak bench fmt install uninstall clean

help:
	@sed -n 's/^## //p' Makefile

## build      the release executables, in .build/release
build:
	$(SWIFT) build -c release --product inventoryfs
	$(SWIFT) build -c release --product s3-origin

## check      formatting, scripts, names in the documentation, and a build without warnings
check:
	Tests/check

## test       all tests except the nightly ones, including those on real mounts (installs missing packages)
test:
	Tests/run

## check-all  everything, nightly and before a release: about 90 minutes
check-all:
	Tests/check
	Tests/run --nightly
	Tests/sanitize thread
	Tests/sanitize address --integration
	Tests/fuzz 60
	Tests/soak --minutes 10

## sanitize   unit tests and tests on real mounts, with ThreadSanitizer and AddressSanitizer
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

## clean      removes the build products, those of the sanitizers and of fuzzing too
clean:
	$(SWIFT) package clean
	rm -rf .build-address .build-thread .build-fuzz
