#if THREAD_SANITIZER
  import Glibc

  // This type exists only in builds under ThreadSanitizer (`-Xswiftc -DTHREAD_SANITIZER`), which
  // knows a pthread_mutex_t but not Synchronization's `Mutex`: on Linux that is a futex inlined by
  // the compiler, so that each value behind one would be reported as a race (docs/decisions/0007).
  // The type has those members of `Mutex` that the sources use, with the same signatures.

  /// A value that one thread at a time has.
  public struct Lock<Value: ~Copyable>: ~Copyable {
    // Both are allocated so that they have a fixed address; only `deinit` frees them.
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>
    private let value: UnsafeMutablePointer<Value>

    public init(_ initialValue: consuming sending Value) {
      mutex = .allocate(capacity: 1)
      mutex.initialize(to: pthread_mutex_t())
      let code = pthread_mutex_init(mutex, nil)
      precondition(code == 0, "pthread_mutex_init: \(code)")
      value = .allocate(capacity: 1)
      value.initialize(to: initialValue)
    }

    deinit {
      value.deinitialize(count: 1)
      value.deallocate()
      pthread_mutex_destroy(mutex)
      mutex.deallocate()
    }

    public borrowing func withLock<Result: ~Copyable, Failure: Error>(
      _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
      pthread_mutex_lock(mutex)
      defer { pthread_mutex_unlock(mutex) }
      return try body(&value.pointee)
    }
  }

  // The value is reached through `withLock` alone, which lets in one thread at a time.
  extension Lock: @unchecked Sendable where Value: ~Copyable {}
#else
  public import Synchronization

  /// A value that one thread at a time has.
  public typealias Lock = Mutex
#endif
