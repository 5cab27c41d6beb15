import NIOConcurrencyHelpers
import NIOCore

/// The live connections, numbered as they were accepted.
final class ConnectionRegistry: Sendable {
  private struct State {
    var totals = ConnectionTotals()
    var nextNumber = 1
    var live: [Int: any Channel] = [:]
  }

  private let state = NIOLockedValueBox(State())

  /// Adds a connection and returns its number.
  func opened(_ channel: any Channel) -> Int {
    state.withLockedValue { state in
      let number = state.nextNumber
      state.nextNumber += 1
      state.live[number] = channel
      state.totals.accepted += 1
      state.totals.live = state.live.count
      state.totals.mostAtOnce = max(state.totals.mostAtOnce, state.live.count)
      return number
    }
  }

  func closed(_ number: Int) {
    state.withLockedValue { state in
      state.live[number] = nil
      state.totals.live = state.live.count
    }
  }

  var totals: ConnectionTotals {
    state.withLockedValue { $0.totals }
  }

  var liveChannels: [any Channel] {
    state.withLockedValue { Array($0.live.values) }
  }

  /// Starts the count over; live connections count as accepted again.
  func reset() {
    state.withLockedValue { state in
      let live = state.live.count
      state.totals = ConnectionTotals(accepted: live, live: live, mostAtOnce: live)
    }
  }
}
