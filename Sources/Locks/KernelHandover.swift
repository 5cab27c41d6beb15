#if THREAD_SANITIZER
  import Synchronization

  // An object whose address one thread gives to the kernel and another gets back is ordered by the
  // kernel, of which ThreadSanitizer knows nothing. Only in its builds, the order is told to it by
  // an atomic.
  private let handovers = Atomic<Int>(0)

  /// Before the calling thread gives something to the kernel.
  public func willHandToKernel() { handovers.add(1, ordering: .releasing) }

  /// After the calling thread has got something back from the kernel.
  public func didGetFromKernel() { _ = handovers.load(ordering: .acquiring) }
#else
  /// Before the calling thread gives something to the kernel.
  @inlinable public func willHandToKernel() {}

  /// After the calling thread has got something back from the kernel.
  @inlinable public func didGetFromKernel() {}
#endif
