import Posix
import Testing

struct DurationTests {
  @Test(
    "A duration in a message has no needless digits",
    arguments: [
      (.zero, "0 ms"), (.microseconds(75_403), "75 ms"), (.microseconds(999_999), "999 ms"),
      (.seconds(1), "1 s"), (.milliseconds(1049), "1 s"), (.milliseconds(1050), "1.1 s"),
      (.milliseconds(2500), "2.5 s"), (.milliseconds(59_960), "60 s"), (.seconds(3600), "3600 s"),
    ] as [(Duration, String)])
  func rounding(duration: Duration, text: String) {
    #expect(duration.roundedText == text)
  }
}
