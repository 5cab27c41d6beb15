/// A parameter of a request's query, not yet encoded.
public struct QueryItem: Sendable, Hashable {
  public let name: String
  public let value: String

  public init(_ name: String, _ value: String = "") {
    self.name = name
    self.value = value
  }

  /// The items sorted and encoded, as the signature and the body of a form require.
  package static func encoded(_ items: [QueryItem]) -> String {
    items.map { item in
      (
        item.name.percentEncoded(keepingSlashes: false),
        item.value.percentEncoded(keepingSlashes: false)
      )
    }
    .sorted { $0 < $1 }
    .map { "\($0)=\($1)" }.joined(separator: "&")
  }
}

/// The target of one request, in the forms that the HTTP client and the signature need. All are
/// ASCII.
public struct RequestTarget: Sendable, Hashable {
  public let scheme: String
  /// The Host header's value.
  public let host: String
  /// The path as signed and sent.
  public let canonicalURI: String
  /// The query as signed and sent, sorted; empty if there is none.
  public let canonicalQuery: String

  public init(scheme: String, host: String, canonicalURI: String, canonicalQuery: String = "") {
    self.scheme = scheme
    self.host = host
    self.canonicalURI = canonicalURI
    self.canonicalQuery = canonicalQuery
  }

  public var url: String {
    "\(scheme)://\(host)\(canonicalURI)\(canonicalQuery.isEmpty ? "" : "?")\(canonicalQuery)"
  }
}
