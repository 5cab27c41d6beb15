/// A moment as the signature writes it, in UTC. It is formatted by arithmetic, because a formatter
/// costs more than the signature.
struct SigningTime {
  /// The day, such as "20130524".
  let day: String
  /// The day and time, such as "20130524T000000Z".
  let timestamp: String

  init(secondsSinceEpoch: Int64) {
    let (days, second) = secondsSinceEpoch.quotientAndRemainderRoundedDown(dividingBy: 86_400)
    // Years begin in March here, so that the leap day is a year's last, and eras have 400 of them.
    let (era, dayOfEra) = (days + 719_468).quotientAndRemainderRoundedDown(dividingBy: 146_097)
    let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
    let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
    let monthFromMarch = (5 * dayOfYear + 2) / 153
    let dayOfMonth = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
    let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
    let year = era * 400 + yearOfEra + (month <= 2 ? 1 : 0)

    var digits: [UInt8] = []
    digits.reserveCapacity(16)
    func append(_ number: Int64, count: Int) {
      var (number, divisor) = (number, Int64(1))
      for _ in 1..<count { divisor *= 10 }
      for _ in 0..<count {
        digits.append(UInt8(ascii: "0") + UInt8(truncatingIfNeeded: number / divisor % 10))
        number %= divisor
        divisor = max(divisor / 10, 1)
      }
    }
    append(year, count: 4)
    append(month, count: 2)
    append(dayOfMonth, count: 2)
    day = String(decoding: digits, as: UTF8.self)
    digits.append(UInt8(ascii: "T"))
    append(second / 3600, count: 2)
    append(second / 60 % 60, count: 2)
    append(second % 60, count: 2)
    digits.append(UInt8(ascii: "Z"))
    timestamp = String(decoding: digits, as: UTF8.self)
  }
}

extension Int64 {
  fileprivate func quotientAndRemainderRoundedDown(
    dividingBy divisor: Int64
  ) -> (Int64, Int64) {
    let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
    return remainder < 0 ? (quotient - 1, remainder + divisor) : (quotient, remainder)
  }
}
