// swift-tools-version: 6.1
import PackageDescription

// Arrows point down only; the targets of one level never import each other (docs/ARCHITECTURE.md).
//
//   inventoryfs                                        flags, wiring, the process
//   FuseMount                                          kernel <-> file system
//   InventoryFileSystem                                nodes, open chunks, fetch coordination
//   ReadPlanning                                       every decision, as values
//   InventoryManifest | BlockCache | ObjectStore       the format | the disk | the network
//                                    AWSCredentials    beneath ObjectStore: who signs, and how
//                                    HTTPTransfer      beneath both: transfers by libcurl
//   Blocks                                             how a chunk is cut, for planner and cache
//
// EmbeddedS3Origin stands apart: it shares no code with the client that it checks but Digests,
// which published vectors check.

let swiftSettings: [SwiftSetting] = [
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
]

func target(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: swiftSettings)
}

func tests(of name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .testTarget(
    name: "\(name)Tests", dependencies: [.byName(name: name), "TestSupport"] + dependencies,
    swiftSettings: swiftSettings)
}

func systemLibrary(_ name: String, pkgConfig: String, apt: String) -> Target {
  .systemLibrary(name: name, pkgConfig: pkgConfig, providers: [.apt([apt])])
}

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let system: Target.Dependency = .product(name: "SystemPackage", package: "swift-system")

// The modules that are used, not all of "Collections", which takes longer to build than the rest of
// the package.
func collection(_ name: String) -> Target.Dependency {
  .product(name: name, package: "swift-collections")
}

let package = Package(
  name: "inventoryfs",
  products: [
    .executable(name: "inventoryfs", targets: ["inventoryfs"]),
    .executable(name: "s3-origin", targets: ["s3-origin"]),
    .library(name: "EmbeddedS3Origin", targets: ["EmbeddedS3Origin"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.2.0"),
    .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-nio", from: "2.80.0"),
    .package(url: "https://github.com/apple/swift-system", from: "1.5.0"),
  ],
  targets: [
    .systemLibrary(name: "CCRC32C"),
    .systemLibrary(name: "CLinux"),
    systemLibrary("CExpat", pkgConfig: "expat", apt: "libexpat1-dev"),
    systemLibrary("CFuse3", pkgConfig: "fuse3", apt: "libfuse3-dev"),
    systemLibrary("CCrypto", pkgConfig: "libcrypto", apt: "libssl-dev"),
    systemLibrary("CCurl", pkgConfig: "libcurl", apt: "libcurl4-openssl-dev"),
    systemLibrary("CZlib", pkgConfig: "zlib", apt: "zlib1g-dev"),

    target("Digests", ["CCrypto"]),
    target("Posix", ["CLinux", "Locks", system]),
    target("Locks"),
    target("PrintableText"),
    target("Blocks"),
    target(
      "ReadPlanning",
      [
        "Blocks", collection("DequeModule"), collection("HeapModule"),
        collection("OrderedCollections"),
      ]),
    target("InventoryManifest", ["Digests", "PrintableText"]),
    target(
      "BlockCache",
      ["Blocks", "CCRC32C", "CLinux", "CZlib", "Digests", "Locks", logging, system]),
    target("XMLFields", ["CExpat", "PrintableText"]),
    target("HTTPTransfer", ["CCurl", "Locks", "Posix", "PrintableText"]),
    target(
      "AWSCredentials",
      ["Digests", "HTTPTransfer", "Locks", "Posix", "PrintableText", "XMLFields"]),
    target(
      "ObjectStore",
      ["AWSCredentials", "HTTPTransfer", "Locks", "Posix", "PrintableText", "XMLFields"]),
    target(
      "InventoryFileSystem",
      [
        "BlockCache", "Blocks", "CLinux", "InventoryManifest", "Locks", "ObjectStore",
        "Posix", "PrintableText", "ReadPlanning", logging, system,
      ]),
    target(
      "FuseMount",
      [
        "CFuse3", "CLinux", "InventoryFileSystem", "Locks", "Posix", "PrintableText", logging,
        system,
      ]),
    .executableTarget(
      name: "inventoryfs",
      dependencies: [
        "AWSCredentials", "BlockCache", "CLinux", "FuseMount", "InventoryFileSystem",
        "InventoryManifest", "Locks",
        "ObjectStore", "Posix", "PrintableText", "ReadPlanning", logging, system,
        collection("DequeModule"),
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swiftSettings),

    target(
      "EmbeddedS3Origin",
      [
        "Digests", logging,
        .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
        .product(name: "NIOCore", package: "swift-nio"),
        .product(name: "NIOPosix", package: "swift-nio"),
        .product(name: "NIOHTTP1", package: "swift-nio"),
      ]),
    .executableTarget(
      name: "s3-origin",
      dependencies: [
        "EmbeddedS3Origin", logging,
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      swiftSettings: swiftSettings),

    .target(
      name: "TestSupport", dependencies: ["Locks", logging], path: "Tests/TestSupport",
      swiftSettings: swiftSettings),
    tests(of: "Digests"),
    tests(of: "Locks"),
    tests(of: "Blocks"),
    tests(of: "ReadPlanning", ["Blocks"]),
    tests(of: "InventoryManifest"),
    tests(of: "BlockCache", ["Blocks", "Locks"]),
    tests(of: "HTTPTransfer", ["Locks"]),
    tests(of: "AWSCredentials", ["Digests", "HTTPTransfer", "Locks"]),
    tests(of: "ObjectStore", ["AWSCredentials", "EmbeddedS3Origin", "HTTPTransfer", "Locks"]),
    tests(
      of: "InventoryFileSystem",
      ["AWSCredentials", "BlockCache", "Blocks", "EmbeddedS3Origin", "Locks", "Posix"]),
    tests(of: "FuseMount", ["CFuse3", "InventoryFileSystem", "Locks", "Posix", logging]),
    tests(of: "inventoryfs", [.product(name: "ArgumentParser", package: "swift-argument-parser")]),
    tests(of: "EmbeddedS3Origin"),
    tests(of: "Posix", ["Locks"]),
    tests(of: "PrintableText"),
  ],
  swiftLanguageModes: [.v6]
)

// The fuzzing targets are compiled into their tests, or, where Tests/fuzz sets this and builds
// everything beneath instrumented, into a program with libFuzzer.
let fuzzedModules: [Target.Dependency] = [
  "AWSCredentials", "BlockCache", "HTTPTransfer", "InventoryManifest", "ObjectStore",
  "ReadPlanning",
]
if Context.environment["INVENTORYFS_FUZZING"] == nil {
  package.targets.append(
    .testTarget(
      name: "FuzzCorpusTests", dependencies: fuzzedModules + ["TestSupport"], path: "Tests/Fuzzing",
      exclude: ["CFuzzer", "corpus", "Sources/FuzzCommand.swift"],
      sources: ["CorpusTests", "Sources"], swiftSettings: swiftSettings))
} else {
  package.targets += [
    .systemLibrary(name: "CFuzzer", path: "Tests/Fuzzing/CFuzzer"),
    .executableTarget(
      name: "fuzzing", dependencies: fuzzedModules + ["CFuzzer"], path: "Tests/Fuzzing/Sources",
      swiftSettings: swiftSettings),
  ]
}
