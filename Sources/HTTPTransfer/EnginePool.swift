import Locks

/// Engines for one server, each with a thread of its own, between which the transfers are shared
/// out.
///
/// The cap on connections is divided between the engines too, and a transfer goes to the one with
/// the most left of its share: as long as no more transfers run at once than the cap allows, none
/// waits for a connection.
package final class EnginePool: Sendable {
  /// The engine that runs a transfer.
  package struct Place: Sendable {
    package let number: Int
    fileprivate let engine: CurlEngine

    package func submit(_ transfer: CurlTransfer) { engine.submit(transfer) }

    /// Ends the transfer soon, with `.cancelled` unless it ends by itself before.
    package func cancel(_ transfer: CurlTransfer) { engine.cancel(transfer) }
  }

  private struct State {
    /// How many more transfers each engine has a connection for; negative where transfers have to
    /// wait.
    var free: [Int]
    var freeCount: Int { free.reduce(0, +) }
    var takenCount = 0
  }

  private let engines: [CurlEngine]
  private let maxConnections: Int
  private let state: Lock<State>

  package var freeCount: Int { state.withLock { $0.freeCount } }

  /// How many transfers have been begun so far, and how many of them are under way.
  package var transferCounts: (begun: Int, underWay: Int) {
    state.withLock { ($0.takenCount, maxConnections - $0.freeCount) }
  }

  /// Returns nil when libcurl cannot be set up or the system has no memory or threads left.
  ///
  /// - Parameter threadCount: at least 1; one thread has at least one connection.
  package init?(threadCount: Int, _ configuration: CurlEngine.Configuration) {
    let count = max(1, min(threadCount, configuration.maxConnections))
    let shares = (0..<count).map { number in
      configuration.maxConnections / count + (number < configuration.maxConnections % count ? 1 : 0)
    }
    var engines: [CurlEngine] = []
    let experience = CurlEngine.Experience(configuration)
    for share in shares {
      var configuration = configuration
      configuration.maxConnections = share
      guard let engine = CurlEngine(configuration, experience) else {
        for engine in engines { engine.stop() }
        return nil
      }
      engines.append(engine)
    }
    self.engines = engines
    maxConnections = configuration.maxConnections
    state = Lock(State(free: shares))
  }

  /// Reserves a place for one transfer, until `leave`.
  package func take() -> Place {
    let number = state.withLock { state in
      // The first of equals, so that few transfers use the connections that are warm.
      let number = state.free.indices.reduce(0) { state.free[$1] > state.free[$0] ? $1 : $0 }
      state.free[number] -= 1
      state.takenCount += 1
      return number
    }
    return Place(number: number, engine: engines[number])
  }

  package func leave(_ place: Place) { state.withLock { $0.free[place.number] += 1 } }

  /// Ends all transfers and the threads. Must not be called from a transfer's callback.
  package func stop() {
    for engine in engines { engine.stop() }
  }
}
