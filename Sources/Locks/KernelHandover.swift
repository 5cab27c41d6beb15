#if THREAD_SANITIZER
  import Synchronization

  // When one thread gives an object's address to the kernel and another thread gets it back, the
  // kernel orders their accesses. ThreadSanitizer does not know that, so in its builds, and only
  // there, an atomic shows it the order.
  private let handovers = Atomic<Int>(0)

  /// Must be called before the calling thread gives an object to the kernel.
  public func willHandToKernel() { handovers.add(1, ordering: .releasing) }

  /// Must be called after the calling thread has got an object back from the kernel.
  public func didGetFromKernel() { _ = handovers.load(ordering: .acquiring) }
#else
  /// Must be called before the calling thread gives an object to the kernel.
  @inlinable public func willHandToKernel() {}

  /// Must be called after the calling thread has got an object back from the kernel.
  @inlinable public func didGetFromKernel() {}
#endif
