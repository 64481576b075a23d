// SPDX-License-Identifier: MIT
#include "tools/crash/perform.h"

namespace crash {

Answer ok_answer() { return {"", std::string("OK\0", 3)}; }

Answer answer_of(const Frame& frame) {
  const std::string error = error_of(frame);
  return error.empty() ? Answer{"", frame.payload} : Answer{error, ""};
}

std::string show(const Answer& answer) {
  return answer.error.empty() ? "\"" + printable(answer.payload) + "\"" : answer.error;
}

std::string terminated(const std::vector<std::string>& words) {
  std::string out;
  for (const std::string& word : words) out += word + '\0';
  return out;
}

bool has_path(Op op) {
  switch (op) {
    case Op::kDirectory:
    case Op::kRead:
    case Op::kGetPerms:
    case Op::kWrite:
    case Op::kMkdir:
    case Op::kRm:
    case Op::kSetPerms:
      return true;
    default:
      return false;
  }
}

bool is_commit(const Request& request) {
  return request.op == Op::kTransactionEnd && request.payload.starts_with('T');
}

Answer perform_on(Tree& tree, const Request& request, std::string_view creator) {
  const std::string path = path_of(request);
  const auto node = tree.find(path);
  const bool exists = node != tree.end();
  switch (request.op) {
    case Op::kWrite:
      make_node(tree, path, creator);
      tree.at(path).value = value_of(request);
      return ok_answer();
    case Op::kMkdir:
      make_node(tree, path, creator);
      return ok_answer();
    case Op::kRm:
      if (!exists && !tree.contains(parent_of(path))) return {"ENOENT", ""};
      remove_node(tree, path);
      return ok_answer();
    case Op::kSetPerms: {
      auto perms = split(request.payload);
      perms.erase(perms.begin());
      if (!exists) return {"ENOENT", ""};
      node->second.perms = perms;
      return ok_answer();
    }
    default:
      break;
  }
  if (!exists) return {"ENOENT", ""};
  if (request.op == Op::kRead) return {"", node->second.value};
  if (request.op == Op::kGetPerms) return {"", terminated(node->second.perms)};
  return {"", terminated(node->second.children)};
}

}  // namespace crash
