// SPDX-License-Identifier: MIT
/// Moments as users write and read them. All are microseconds since 1970.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace history {

std::int64_t now_us();

/// "2026-11-21T16:40:11.123456+01:00", in the machine's time zone.
std::string format_time(std::int64_t time_us);

/// Reads what format_time() writes and what people type, in the machine's time
/// zone where none is told:
///   2026-11-21T16:40:11.5+01:00   also with a blank for the T, Z for +00:00,
///                                 without zone, fraction, seconds or time of day
///   16:40:11, 16:40               today
///   @1763741111.5                 seconds since 1970
///   -5m, -1h30m                   before now; of d, h, m, s
///   now
/// None if it is nothing of these.
std::optional<std::int64_t> parse_time(std::string_view text, std::int64_t now_us);

}  // namespace history
