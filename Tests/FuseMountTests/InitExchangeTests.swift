import Testing

@testable import FuseMount

@Suite("The first exchange with the kernel")
struct InitExchangeTests {
  /// Little-endian words, as on every machine that this runs on.
  private func bytes(_ words: [UInt32]) -> [UInt8] {
    words.flatMap { word in withUnsafeBytes(of: word) { Array($0) } }
  }

  private func word(_ bytes: [UInt8], at offset: Int) -> UInt32 {
    bytes.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
  }

  /// A request as kernel 6.9 sends it: header, major, minor, read-ahead, flags, flags2, eleven
  /// unused words.
  private func request(opcode: UInt32 = 26, flags: UInt32 = 1 << 30 | 0x7b, flags2: UInt32 = 0x7f)
    -> [UInt8]
  {
    bytes([104, opcode, 0x1122_3344, 0x5566_7788, 1, 0, 0, 0, 4711, 0])
      + bytes([7, 40, 131072, flags, flags2] + Array(repeating: 0, count: 11))
  }

  private let unique: UInt64 = 0x5566_7788_1122_3344

  /// libfuse 3.14's reply: header, then major … flags at 12, flags2 and eight unused words at the
  /// end.
  private func reply(error: Int32 = 0) -> [UInt8] {
    bytes([80, UInt32(bitPattern: error), 0x1122_3344, 0x5566_7788])
      + bytes([7, 37, 131072, 0x21, 0x0030_0040, 1 << 20, 1, 256] + Array(repeating: 0, count: 8))
  }

  @Test("an INIT with the flag and its extension bit is an offer, named by its number")
  func offer() {
    #expect(request().withUnsafeBytes(InitExchange.offer) == unique)
  }

  @Test("there is no offer without the flag, without the extension bit, or in another request")
  func noOffer() {
    #expect(request(flags2: ~(1 << 5)).withUnsafeBytes(InitExchange.offer) == nil)
    #expect(request(flags: ~(1 << 30)).withUnsafeBytes(InitExchange.offer) == nil)
    #expect(request(opcode: 15).withUnsafeBytes(InitExchange.offer) == nil)
  }

  @Test("requests that are cut short are no offers", arguments: 0..<60)
  func cutShort(count: Int) {
    #expect(Array(request().prefix(count)).withUnsafeBytes(InitExchange.offer) == nil)
  }

  @Test("accepting sets two flags and the stack depth, and nothing else")
  func accept() {
    let before = reply()
    var after = before
    #expect(InitExchange.accept(unique, in: &after))
    #expect(word(after, at: 16 + 12) == 0x21 | 1 << 30)
    #expect(word(after, at: 16 + 32) == 1 << 5)
    #expect(word(after, at: 16 + 36) == 1)
    let changed = [16 + 12..<16 + 16, 16 + 32..<16 + 40]
    for index in before.indices where !changed.contains(where: { $0.contains(index) }) {
      #expect(before[index] == after[index], "byte \(index)")
    }
  }

  @Test("replies to other requests, errors and short replies are left alone")
  func leftAlone() {
    for (original, offer) in [
      (reply(), unique + 1), (reply(error: -71), unique), (Array(reply().prefix(16 + 24)), unique),
    ] {
      var bytes = original
      #expect(!InitExchange.accept(offer, in: &bytes))
      #expect(bytes == original)
    }
  }

  @Test("the shortest request and the shortest reply that have the fields are enough")
  func shortest() {
    #expect(Array(request().prefix(60)).withUnsafeBytes(InitExchange.offer) == unique)
    var reply = Array(reply().prefix(16 + 40))
    #expect(InitExchange.accept(unique, in: &reply))
    #expect(reply.count == 16 + 40 && word(reply, at: 16 + 36) == 1)
  }

  @Test("replies that are cut short are left alone", arguments: 0..<56)
  func replyCutShort(count: Int) {
    let before = Array(reply().prefix(count))
    var after = before
    #expect(!InitExchange.accept(unique, in: &after))
    #expect(after == before)
  }

  @Test("an INIT is one whether or not it offers passthrough, and wherever it lies in memory")
  func isInit() {
    #expect(request(flags2: 0).withUnsafeBytes(InitExchange.isInit))
    #expect(Array(request().prefix(40)).withUnsafeBytes(InitExchange.isInit))
    #expect(!Array(request().prefix(39)).withUnsafeBytes(InitExchange.isInit))
    #expect(!request(opcode: 27).withUnsafeBytes(InitExchange.isInit))
    for shift in 1...8 {
      let shifted = [UInt8](repeating: 0xff, count: shift) + request()
      shifted.withUnsafeBytes {
        let bytes = UnsafeRawBufferPointer(rebasing: $0[shift...])
        #expect(InitExchange.isInit(bytes) && InitExchange.offer(in: bytes) == unique)
      }
    }
  }

  @Test("flags that libfuse has set stay set")
  func keepsFlags() {
    var after = reply()
    after.replaceSubrange(16 + 32..<16 + 36, with: bytes([0x8000_0001]))
    #expect(InitExchange.accept(unique, in: &after))
    #expect(word(after, at: 16 + 32) == 0x8000_0021)
  }

  @Test("an open's reply names handle, flags without FOPEN_KEEP_CACHE, and backing id")
  func openReply() {
    func reply(isDirect: Bool) -> [UInt8] {
      PassthroughOpenReply.bytes(handle: 0x0102_0304_0506_0708, backing: 9, isDirect: isDirect)
    }
    #expect(reply(isDirect: false) == [8, 7, 6, 5, 4, 3, 2, 1, 0xa0, 0, 0, 0, 9, 0, 0, 0])
    #expect(reply(isDirect: true) == [8, 7, 6, 5, 4, 3, 2, 1, 0xa1, 0, 0, 0, 9, 0, 0, 0])
  }
}
