// SPDX-License-Identifier: MIT
#include "tools/history/times.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <ctime>
#include <limits>

namespace history {
namespace {

constexpr std::int64_t kSecond = 1'000'000;
constexpr int kFractionDigits = 6;

/// Takes what it is asked for off the front of a text.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : rest_(text) {}

  bool done() const { return rest_.empty(); }
  char front() const { return rest_.empty() ? '\0' : rest_.front(); }

  bool take(char c) {
    if (front() != c || rest_.empty()) return false;
    rest_.remove_prefix(1);
    return true;
  }
  /// A number of `digits_min` to `digits_max` digits.
  std::optional<std::int64_t> number(int digits_min, int digits_max) {
    std::int64_t value = 0;
    int digits = 0;
    for (; digits < digits_max && is_digit(); ++digits) value = value * 10 + take_digit();
    if (digits < digits_min) return std::nullopt;
    return value;
  }
  /// What follows a decimal point, as microseconds; what is finer is dropped.
  std::optional<std::int64_t> fraction() {
    if (!is_digit()) return std::nullopt;
    std::int64_t micros = 0;
    for (int digit = 0; digit < kFractionDigits; ++digit) {
      micros = micros * 10 + (is_digit() ? take_digit() : 0);
    }
    while (is_digit()) take_digit();
    return micros;
  }

 private:
  bool is_digit() const { return front() >= '0' && front() <= '9'; }
  int take_digit() {
    const int digit = rest_.front() - '0';
    rest_.remove_prefix(1);
    return digit;
  }
  std::string_view rest_;
};

std::tm local_of(std::int64_t time_us) {
  const auto seconds = static_cast<std::time_t>(
      std::chrono::floor<std::chrono::seconds>(std::chrono::microseconds(time_us)).count());
  std::tm local{};
  localtime_r(&seconds, &local);
  return local;
}

/// ".5" if it is there. False if it is there and is no fraction.
bool take_fraction(Scanner& text, std::int64_t& micros) {
  if (!text.take('.')) return true;
  const auto fraction = text.fraction();
  micros = fraction.value_or(0);
  return fraction.has_value();
}

std::optional<std::int64_t> parse_unix(Scanner text) {
  const auto seconds = text.number(1, 11);
  std::int64_t micros = 0;
  if (!seconds || !take_fraction(text, micros) || !text.done()) return std::nullopt;
  return *seconds * kSecond + micros;
}

std::optional<std::int64_t> parse_ago(Scanner text, std::int64_t now) {
  std::int64_t seconds = 0;
  do {
    const auto count = text.number(1, 9);
    if (!count) return std::nullopt;
    if (text.take('d')) {
      seconds += *count * 86400;
    } else if (text.take('h')) {
      seconds += *count * 3600;
    } else if (text.take('m')) {
      seconds += *count * 60;
    } else if (text.take('s')) {
      seconds += *count;
    } else {
      return std::nullopt;
    }
  } while (!text.done());
  return now - seconds * kSecond;
}

/// "16:40", "16:40:11.5".
bool take_time_of_day(Scanner& text, std::tm& moment, std::int64_t& micros) {
  const auto hour = text.number(2, 2);
  if (!hour || *hour > 23 || !text.take(':')) return false;
  const auto minute = text.number(2, 2);
  if (!minute || *minute > 59) return false;
  moment.tm_hour = static_cast<int>(*hour);
  moment.tm_min = static_cast<int>(*minute);
  if (!text.take(':')) return true;
  const auto second = text.number(2, 2);
  if (!second || *second > 60) return false;
  moment.tm_sec = static_cast<int>(*second);
  return take_fraction(text, micros);
}

bool take_date(Scanner& text, std::tm& moment) {
  const auto year = text.number(4, 4);
  if (!year || !text.take('-')) return false;
  const auto month = text.number(2, 2);
  if (!month || *month < 1 || *month > 12 || !text.take('-')) return false;
  const auto day = text.number(2, 2);
  if (!day || *day < 1 || *day > 31) return false;
  moment.tm_year = static_cast<int>(*year) - 1900;
  moment.tm_mon = static_cast<int>(*month) - 1;
  moment.tm_mday = static_cast<int>(*day);
  return true;
}

/// "Z", "+01:00", "+0100": seconds east of Greenwich.
std::optional<std::int64_t> take_zone(Scanner& text) {
  if (text.take('Z')) return 0;
  const bool is_west = text.take('-');
  if (!is_west && !text.take('+')) return std::nullopt;
  const auto hours = text.number(2, 2);
  text.take(':');
  const auto minutes = text.number(2, 2);
  if (!hours || !minutes || *hours > 14 || *minutes > 59) return std::nullopt;
  const std::int64_t east = *hours * 3600 + *minutes * 60;
  return is_west ? -east : east;
}

std::optional<std::int64_t> parse_iso(std::string_view whole, std::int64_t now) {
  Scanner text(whole);
  std::tm moment{};
  std::int64_t micros = 0;
  moment.tm_isdst = -1;
  const bool has_date = whole.find('-') == 4;
  if (has_date) {
    if (!take_date(text, moment)) return std::nullopt;
    if (!text.done() && !text.take('T') && !text.take(' ')) return std::nullopt;
  } else {
    const std::tm today = local_of(now);
    moment.tm_year = today.tm_year;
    moment.tm_mon = today.tm_mon;
    moment.tm_mday = today.tm_mday;
  }
  if (!(has_date && text.done()) && !take_time_of_day(text, moment, micros)) return std::nullopt;
  if (text.done()) return std::int64_t{std::mktime(&moment)} * kSecond + micros;
  const auto east = take_zone(text);
  if (!has_date || !east || !text.done()) return std::nullopt;
  return (std::int64_t{timegm(&moment)} - *east) * kSecond + micros;
}

}  // namespace

std::int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string format_time(std::int64_t time_us) {
  const std::tm local = local_of(time_us);
  const std::int64_t micros = ((time_us % kSecond) + kSecond) % kSecond;
  const long east = std::labs(local.tm_gmtoff) / 60;
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:06}{}{:02}:{:02}", local.tm_year + 1900,
                     local.tm_mon + 1, local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec,
                     micros, local.tm_gmtoff < 0 ? '-' : '+', east / 60, east % 60);
}

std::optional<std::int64_t> parse_time(std::string_view text, std::int64_t now) {
  if (text == "now") return now;
  if (text.starts_with('@')) return parse_unix(Scanner(text.substr(1)));
  if (text.starts_with('-')) return parse_ago(Scanner(text.substr(1)), now);
  return parse_iso(text, now);
}

}  // namespace history
