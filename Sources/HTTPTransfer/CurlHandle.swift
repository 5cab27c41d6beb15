import CCurl
import Glibc
import Posix

/// Owns one curl easy handle, its header list and its error buffer.
final class CurlHandle {
  let raw: UnsafeMutableRawPointer
  private var headers: UnsafeMutablePointer<curl_slist>?
  private let errorBuffer: UnsafeMutablePointer<CChar>

  init?() {
    guard let raw = curl_easy_init() else { return nil }
    self.raw = raw
    errorBuffer = .allocate(capacity: Int(CURL_ERROR_SIZE))
  }

  deinit {
    curl_easy_cleanup(raw)
    curl_slist_free_all(headers)
    errorBuffer.deallocate()
  }

  /// Sets the handle up for a transfer. The transfer is kept alive by the engine for as long as
  /// curl may call back.
  func prepare(_ transfer: CurlTransfer, _ configuration: CurlEngine.Configuration) {
    // Connections, DNS answers and TLS sessions belong to the multi handle and stay.
    curl_easy_reset(raw)
    curl_slist_free_all(headers)
    headers = nil
    for header in transfer.headers { headers = curl_slist_append(headers, header) ?? headers }
    errorBuffer[0] = 0
    let context = Unmanaged.passUnretained(transfer).toOpaque()
    inventoryfs_setopt_string(raw, CURLOPT_URL, transfer.url)
    inventoryfs_setopt_headers(raw, headers)
    inventoryfs_setopt_pointer(raw, CURLOPT_ERRORBUFFER, errorBuffer)
    inventoryfs_setopt_header(raw, receiveHeader, context)
    inventoryfs_setopt_write(raw, receiveBody, context)
    inventoryfs_setopt_socket(raw, openSocket, context)
    inventoryfs_setopt_long(raw, CURLOPT_NOBODY, transfer.isHead ? 1 : 0)
    inventoryfs_setopt_long(raw, CURLOPT_BUFFERSIZE, configuration.receiveBufferSizeInBytes)
    inventoryfs_setopt_long(raw, CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1)
    // A key may hold "..", which is a name like any other.
    inventoryfs_setopt_long(raw, CURLOPT_PATH_AS_IS, 1)
    // Credentials go to the endpoint and nowhere else.
    inventoryfs_setopt_long(raw, CURLOPT_FOLLOWLOCATION, 0)
    inventoryfs_setopt_string(raw, CURLOPT_PROTOCOLS_STR, "http,https")
    // What a proxy answers to CONNECT is not the store's answer.
    inventoryfs_setopt_long(raw, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
    inventoryfs_setopt_long(raw, CURLOPT_NOSIGNAL, 1)
    // A transfer that ends while a name is being looked up does not wait for the name server:
    // taking the handle from the multi handle would join the thread that asks it, and hold up all
    // transfers of this one.
    inventoryfs_setopt_long(raw, CURLOPT_QUICK_EXIT, 1)
    inventoryfs_setopt_long(raw, CURLOPT_TCP_KEEPALIVE, 1)
    inventoryfs_setopt_long(
      raw, CURLOPT_CONNECTTIMEOUT_MS, configuration.connectTimeout.inMilliseconds)
    inventoryfs_setopt_long(raw, CURLOPT_LOW_SPEED_LIMIT, configuration.stallBytesPerSecond)
    inventoryfs_setopt_long(
      raw, CURLOPT_LOW_SPEED_TIME, max(1, configuration.stallTimeout.inMilliseconds / 1000))
  }

  /// curl's own description of a failure.
  func errorText(_ code: CURLcode) -> String {
    if code == CURLE_OK { return "" }
    let detail = String(cString: errorBuffer)
    return detail.isEmpty ? String(cString: curl_easy_strerror(code)) : detail
  }
}

// libcurl calls these on the engine's thread, with the transfer that `prepare` gave it: alive,
// because the engine holds it until it has taken the handle from the multi handle.

private func receiveHeader(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
  _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context, let bytes else { return 0 }
  let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
  if transfer.firstByte == nil { transfer.firstByte = SuspendingClock.now }
  var length = size * count
  while length > 0, bytes[length - 1] == 10 || bytes[length - 1] == 13 { length -= 1 }
  return transfer.onHeader(UnsafeRawBufferPointer(start: bytes, count: length)) ? size * count : 0
}

/// Opens a socket as libcurl would, and keeps the reason if that is not possible, which libcurl
/// takes for a server that refuses the connection.
private func openSocket(
  _ context: UnsafeMutableRawPointer?, _ purpose: curlsocktype,
  _ address: UnsafeMutablePointer<curl_sockaddr>?
) -> curl_socket_t {
  guard let context, let address = address?.pointee else { return -1 }
  let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
  let type = address.socktype | Int32(SOCK_CLOEXEC.rawValue)
  let descriptor = socket(address.family, type, address.protocol)
  if descriptor < 0 { transfer.shortage = DescriptorShortage(errno: errno) }
  return descriptor
}

private func receiveBody(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int,
  _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context, let bytes else { return 0 }
  let transfer = Unmanaged<CurlTransfer>.fromOpaque(context).takeUnretainedValue()
  let body = UnsafeRawBufferPointer(start: bytes, count: size * count)
  transfer.receivedInBytes += body.count
  transfer.collector?.append(body, of: transfer)
  // Anything but the count ends the transfer with CURLE_WRITE_ERROR.
  return transfer.isRefused ? 0 : body.count
}
