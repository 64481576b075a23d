// SPDX-License-Identifier: MIT
/// The scenarios that only domains can have (scenarios.h).
#pragma once

#include "tools/load/options.h"

namespace load {

/// kill -9 with many guests: until each ring has its first reply.
void run_ring_restart(const Options& options);
/// Domains destroyed at once: until domain 0 has been told of each.
void run_deaths(const Options& options);

}  // namespace load
