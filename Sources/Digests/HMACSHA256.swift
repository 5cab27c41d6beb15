/// HMAC (RFC 2104) of `message` with SHA-256: 32 bytes, first byte first. `key` and `message` may
/// have any length.
public func hmacSHA256(_ message: some Sequence<UInt8>, key: some Sequence<UInt8>) -> [UInt8] {
  let blockSizeInBytes = 64
  var block = Array(key)
  if block.count > blockSizeInBytes { block = SHA256.digest(of: block) }
  block += repeatElement(0, count: blockSizeInBytes - block.count)
  var inner = SHA256()
  inner.update(block.map { $0 ^ 0x36 })
  inner.update(message)
  var outer = SHA256()
  outer.update(block.map { $0 ^ 0x5c })
  outer.update(inner.digest())
  return outer.digest()
}
