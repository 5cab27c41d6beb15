import Digests
import PrintableText

/// The address of a service that signed requests go to.
package struct ServiceEndpoint: Sendable, Hashable, CustomStringConvertible {
  package let scheme: String
  /// The host and, if it is not the scheme's default, the port.
  package let authority: String
  /// The path before the service's own, without a slash at its end; may be empty.
  package let basePath: String

  /// AWS's own address of a service.
  ///
  /// - Parameters:
  ///   - service: a part of the host's name, such as "s3".
  ///   - region: one that `Region.isValid` accepts.
  package init(service: String, region: String) {
    scheme = "https"
    authority = "\(service).\(region).\(Region.domain(of: region))"
    basePath = ""
  }

  /// Reads an address: `http` or `https`, a host, and optionally a port and a path.
  package init(url: String) throws(MalformedEndpoint) {
    let parts = url.split(separator: "/", maxSplits: 3, omittingEmptySubsequences: false)
    let scheme = parts[0].lowercased()
    guard parts.count >= 3, parts[1].isEmpty, scheme == "http:" || scheme == "https:" else {
      throw MalformedEndpoint(problem: "does not start with http:// or https://")
    }
    self.scheme = String(scheme.dropLast())
    guard let authority = Self.authority(parts[2].lowercased(), scheme: self.scheme) else {
      throw MalformedEndpoint(
        problem: "has '\(printable(parts[2], limit: 80))' where a host and a port should be")
    }
    self.authority = authority
    var path = parts.count > 3 ? parts[3] : ""
    guard path.utf8.allSatisfy({ $0.isUnreserved || "/%".utf8.contains($0) }) else {
      throw MalformedEndpoint(problem: "has a query or an unusual character after the host")
    }
    while path.hasSuffix("/") { path.removeLast() }
    basePath = path.isEmpty ? "" : "/\(path)"
  }

  /// Reads `host`, `host:port` or `[address]:port`, and drops the scheme's default port; nil for
  /// other text.
  private static func authority(_ text: String, scheme: String) -> String? {
    var host = Substring(text)
    var port: Substring?
    if text.hasPrefix("[") {
      guard let end = text.firstIndex(of: "]") else { return nil }
      host = text[...end]
      guard host.utf8.count > 2,
        host.dropFirst().dropLast().utf8.allSatisfy({
          Hexadecimal.value(ofDigit: $0) != nil || ":.".utf8.contains($0)
        })
      else { return nil }
      let rest = text[text.index(after: end)...]
      guard rest.isEmpty || rest.hasPrefix(":") else { return nil }
      port = rest.isEmpty ? nil : rest.dropFirst()
    } else {
      if let colon = text.firstIndex(of: ":") {
        host = text[..<colon]
        port = text[text.index(after: colon)...]
      }
      guard !host.isEmpty, host.utf8.allSatisfy({ $0.isUnreserved && $0 != UInt8(ascii: "~") })
      else {
        return nil
      }
    }
    guard let port else { return String(host) }
    guard port.utf8.allSatisfy(\.isDigit), let number = UInt16(port), number > 0 else { return nil }
    let goesWithoutSaying = number == (scheme == "https" ? 443 : 80)
    return goesWithoutSaying ? String(host) : "\(host):\(number)"
  }

  /// The target of a request to the service.
  ///
  /// - Parameters:
  ///   - host: nil for the endpoint's own.
  ///   - path: what follows the endpoint's own path, encoded; it begins with a slash.
  package func target(
    host: String? = nil, path: String = "/", query: [QueryItem] = []
  ) -> RequestTarget {
    RequestTarget(
      scheme: scheme, host: host ?? authority, canonicalURI: basePath + path,
      canonicalQuery: QueryItem.encoded(query))
  }

  package var description: String { "\(scheme)://\(authority)\(basePath)" }
}

/// Why a text is not the address of an endpoint; the problem continues a sentence that begins with
/// the text.
package struct MalformedEndpoint: Error, Sendable, Equatable {
  package let problem: String
}
