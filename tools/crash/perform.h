// SPDX-License-Identifier: MIT
/// What a request on the tree does to a plain tree, and what it answers.
#pragma once

#include <string>
#include <string_view>

#include "tools/crash/protocol.h"
#include "tools/crash/tree.h"

namespace crash {

/// What a request answers: an error's name or a payload.
struct Answer {
  std::string error;
  std::string payload;
  friend bool operator==(const Answer&, const Answer&) = default;
};

/// The answer of what succeeds and has nothing to tell.
Answer ok_answer();
Answer answer_of(const Frame& frame);
/// For a person.
std::string show(const Answer& answer);
/// Each word with a NUL behind it.
std::string terminated(const std::vector<std::string>& words);

/// Whether the request names a node first: READ, WRITE, SET_PERMS, ...
bool has_path(Op op);
/// TRANSACTION_END that asks for a commit.
bool is_commit(const Request& request);

/// Carries out a request that has_path() in `tree`, for a caller whom no permission
/// stops; `creator` as make_node() takes it.
Answer perform_on(Tree& tree, const Request& request, std::string_view creator);

}  // namespace crash
