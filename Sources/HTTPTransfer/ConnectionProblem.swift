import CCurl

/// Why a transfer failed, as far as it is the connection's fault.
public enum ConnectionProblem: String, Sendable, Equatable, CaseIterable {
  /// The host's name could not be resolved.
  case unknownHost
  /// The connection could not be established.
  case refused
  /// A connection, a response or its bytes took too long.
  case timeout
  /// The TLS handshake was not completed.
  case handshake
  /// The server's certificate was not accepted, or no authority is known to check it against.
  case tls
  /// The connection failed in any other way, mostly after it was established.
  case broken
  /// No file descriptor was left for a connection; the store has no part in it.
  case noDescriptors

  init(_ code: CURLcode) {
    switch code {
    case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY: self = .unknownHost
    case CURLE_COULDNT_CONNECT: self = .refused
    case CURLE_OPERATION_TIMEDOUT: self = .timeout
    // Also where the connection was reset or closed in the handshake.
    case CURLE_SSL_CONNECT_ERROR: self = .handshake
    case CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
      CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR:
      self = .tls
    default: self = .broken
    }
  }
}
