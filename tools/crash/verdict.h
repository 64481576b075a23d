// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>

namespace crash {

/// What is wrong, for a person; nothing when all is well.
using Verdict = std::optional<std::string>;

}  // namespace crash
