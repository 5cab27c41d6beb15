/// Joins the pieces in which libcurl hands out what one `recv` brought, 16 KiB each at most
/// (`CURL_MAX_WRITE_SIZE`): what a receiver does with them, above all writing them to disk, costs
/// by the call as much as by the byte.
///
/// It is emptied at the end of every turn of the engine's loop, so that nothing waits in it for
/// bytes that have not arrived. Used by the engine's thread alone, one buffer for all transfers.
final class BodyCollector {
  // Allocated by `init` and freed by `deinit`; handed out only for the time of a call of `onBody`.
  private let buffer: UnsafeMutableRawBufferPointer
  private var count = 0
  /// The transfer that the buffered bytes belong to.
  private var transfer: CurlTransfer?

  init(capacityInBytes: Int) {
    buffer = .allocate(byteCount: capacityInBytes, alignment: 64)
  }

  deinit { buffer.deallocate() }

  func append(_ piece: UnsafeRawBufferPointer, of transfer: CurlTransfer) {
    if self.transfer !== transfer || piece.count > buffer.count - count { flush() }
    guard piece.count <= buffer.count else { return transfer.deliver(piece) }
    UnsafeMutableRawBufferPointer(rebasing: buffer[count...]).copyMemory(from: piece)
    count += piece.count
    self.transfer = transfer
  }

  func flush() {
    guard let transfer else { return }
    let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
    self.transfer = nil
    count = 0
    transfer.deliver(bytes)
  }
}
