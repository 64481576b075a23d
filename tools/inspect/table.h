// SPDX-License-Identifier: MIT
/// Objects of JSON as a table for people.
#pragma once

#include <string>
#include <vector>

#include "tools/inspect/state.h"

namespace inspect {

/// A field as it would stand in JSON, without quotes; "-" if it is missing.
std::string field(const Document& object, const std::string& name);

/// A line of names, and one for each row with the fields of these names.
std::string table(const std::vector<std::string>& columns, const Document& rows);

}  // namespace inspect
