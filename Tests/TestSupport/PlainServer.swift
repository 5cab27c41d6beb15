import Glibc
import Locks

/// A server that says to each connection what a test wants, byte for byte, and nothing that an HTTP
/// library would add.
public final class PlainServer: Sendable {
  /// One connection.
  public struct Connection: Sendable {
    let descriptor: Int32
    /// The request's head; empty where it is not read.
    public let request: String

    /// False when the client has gone.
    @discardableResult
    public func send(_ text: String) -> Bool {
      var bytes = Array(text.utf8)[...]
      while !bytes.isEmpty {
        let count = bytes.withUnsafeBytes {
          Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        guard count > 0 else { return false }
        bytes = bytes.dropFirst(count)
      }
      return true
    }

    /// Waits until the client has sent something, and leaves it unread.
    public func waitForBytes() {
      var byte: UInt8 = 0
      recv(descriptor, &byte, 1, Int32(MSG_PEEK))
    }

    /// Sends no more, and takes in what the client sends until it closes.
    public func sendEnd() {
      shutdown(descriptor, Int32(SHUT_WR))
      waitForEnd()
    }

    /// Waits until the client closes.
    public func waitForEnd() {
      var byte: UInt8 = 0
      while recv(descriptor, &byte, 1, 0) > 0 {}
    }
  }

  public let port: Int
  private let listener: Int32
  private let counter = Counter()

  /// How many connections there have been.
  public var connectionCount: Int { counter.value.withLock { $0 } }

  /// - Parameters:
  ///   - readsRequest: whether a request's head is read before `serve` is called.
  ///   - serve: called for each connection, on a thread of its own; the connection is closed when
  ///     it returns.
  public init?(readsRequest: Bool = true, _ serve: @escaping @Sendable (Connection) -> Void) {
    listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let code = withUnsafeMutablePointer(to: &address) { [listener] pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(listener, $0, length) == 0 && listen(listener, 16) == 0
          && getsockname(listener, $0, &length) == 0
      }
    }
    guard code else {
      Glibc.close(listener)
      return nil
    }
    port = Int(UInt16(bigEndian: address.sin_port))
    let (listener, counter) = (listener, counter)
    Self.run {
      while true {
        let descriptor = accept(listener, nil, nil)
        guard descriptor >= 0 else { return }
        counter.value.withLock { $0 += 1 }
        Self.run {
          var head: [UInt8] = []
          var byte: UInt8 = 0
          while readsRequest, !head.suffix(4).elementsEqual("\r\n\r\n".utf8),
            recv(descriptor, &byte, 1, 0) == 1
          {
            head.append(byte)
          }
          serve(
            Connection(descriptor: descriptor, request: String(decoding: head, as: UTF8.self)))
          Glibc.close(descriptor)
        }
      }
    }
  }

  deinit {
    shutdown(listener, Int32(SHUT_RDWR))
    Glibc.close(listener)
  }

  private final class Counter: Sendable { let value = Lock(0) }

  private final class Body: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  private static func run(_ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let context = Unmanaged.passRetained(Body(body)).toOpaque()
    pthread_create(
      &thread, nil,
      { context in
        if let context { Unmanaged<Body>.fromOpaque(context).takeRetainedValue().body() }
        return nil
      }, context)
    pthread_detach(thread)
  }
}
