import CCurl
import Posix

/// A small request for which the calling thread waits; it does not go through an engine.
package struct HTTPRequest: Sendable, CustomStringConvertible, CustomReflectable {
  /// Sends it, and returns the response, whatever its status.
  package typealias Sender = @Sendable (HTTPRequest) throws(Failure) -> Response

  package struct Response: Sendable, CustomStringConvertible, CustomReflectable {
    package let status: Int
    package let body: [UInt8]

    package init(status: Int, body: [UInt8]) {
      self.status = status
      self.body = body
    }

    package var description: String { "HTTP \(status), \(body.count) bytes" }
    package var customMirror: Mirror { Mirror(self, children: ["response": description]) }
  }

  /// No response arrived; `text` is curl's explanation.
  package struct Failure: Error {
    package let text: String

    package init(text: String) { self.text = text }
  }

  /// The largest response that is accepted; real ones have one or two KB.
  package static let largestResponseInBytes = 64 << 10

  package var method: String
  package var url: String
  package var headers: [HTTPHeader]
  /// The request's body, sent with POST and PUT only.
  package var body: String
  /// How long the whole exchange may take.
  package var timeout: Duration
  /// Whether a proxy that the environment names is used. Requests to services on this machine or
  /// its link do not use one.
  package var mayUseProxy: Bool

  package init(
    method: String = "GET", url: String, headers: [HTTPHeader] = [], body: String = "",
    timeout: Duration = .seconds(5), mayUseProxy: Bool = false
  ) {
    self.method = method
    self.url = url
    self.headers = headers
    self.body = body
    self.timeout = timeout
    self.mayUseProxy = mayUseProxy
  }

  /// Sends it with libcurl. Redirects are not followed, so that nothing goes to any other host.
  package func send() throws(Failure) -> Response {
    guard let handle = curl_easy_init() else { throw Failure(text: "out of memory") }
    defer { curl_easy_cleanup(handle) }
    var list: UnsafeMutablePointer<curl_slist>?
    for header in headers {
      list = curl_slist_append(list, "\(header.name): \(header.value)") ?? list
    }
    defer { curl_slist_free_all(list) }
    let response = Collector()
    inventoryfs_setopt_string(handle, CURLOPT_URL, url)
    inventoryfs_setopt_headers(handle, list)
    inventoryfs_setopt_string(handle, CURLOPT_PROTOCOLS_STR, "http,https")
    inventoryfs_setopt_long(handle, CURLOPT_FOLLOWLOCATION, 0)
    inventoryfs_setopt_long(handle, CURLOPT_NOSIGNAL, 1)
    inventoryfs_setopt_long(handle, CURLOPT_TIMEOUT_MS, timeout.inMilliseconds)
    // Its end does not wait for a name server.
    inventoryfs_setopt_long(handle, CURLOPT_QUICK_EXIT, 1)
    if !mayUseProxy { inventoryfs_setopt_string(handle, CURLOPT_NOPROXY, "*") }
    if method != "GET" {
      inventoryfs_setopt_long(handle, CURLOPT_POSTFIELDSIZE, body.utf8.count)
      inventoryfs_setopt_string(handle, CURLOPT_COPYPOSTFIELDS, body)
      inventoryfs_setopt_string(handle, CURLOPT_CUSTOMREQUEST, method)
    }
    // curl calls back during `curl_easy_perform` alone, for which the collector is kept alive.
    inventoryfs_setopt_write(handle, collect, Unmanaged.passUnretained(response).toOpaque())
    let code = withExtendedLifetime(response) { curl_easy_perform(handle) }
    guard code == CURLE_OK else {
      throw Failure(
        text: response.bytes.count > Self.largestResponseInBytes
          ? "the response is larger than \(Self.largestResponseInBytes) bytes"
          : DescriptorShortage.now.map { "\($0)" } ?? String(cString: curl_easy_strerror(code)))
    }
    return Response(status: inventoryfs_response_status(handle), body: response.bytes)
  }

  // A body may be a token, an answer credentials.
  package var description: String { "\(method) \(url)" }
  /// Method and URL without the query, for the trace of requests.
  package var tracedName: String { "\(method) \(url.prefix { $0 != "?" })" }
  package var customMirror: Mirror { Mirror(self, children: ["request": description]) }

  fileprivate final class Collector {
    var bytes: [UInt8] = []
  }
}

private func collect(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
  _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context, let bytes else { return 0 }
  let response = Unmanaged<HTTPRequest.Collector>.fromOpaque(context).takeUnretainedValue()
  response.bytes += UnsafeRawBufferPointer(start: bytes, count: size * count)
  // Anything but the count ends the transfer.
  return response.bytes.count > HTTPRequest.largestResponseInBytes ? 0 : size * count
}
