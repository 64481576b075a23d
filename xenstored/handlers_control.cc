// SPDX-License-Identifier: MIT
/// CONTROL: what operators ask through xenstore-control, as 4.17 has it. Live
/// update is not among it: killing the server is our live update.
#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

#include "xenstored/daemon.h"
#include "xenstored/log.h"
#include "xenstored/unique_fd.h"

namespace xenstored {

using store::Answer;
using store::Quota;
using store::WireError;
using Args = std::vector<std::string_view>;

namespace {

struct QuotaText {
  Quota quota;
  std::string_view text;
};

constexpr std::array<QuotaText, 9> kHardQuotas{{
    {Quota::kNodes, "Nodes per domain"},
    {Quota::kWatches, "Watches per domain"},
    {Quota::kTransactions, "Transactions per domain"},
    {Quota::kOutstanding, "Outstanding requests per domain"},
    {Quota::kTransactionNodes, "Max. number of accessed nodes per transaction"},
    {Quota::kMemory, "Total Xenstore memory per domain"},
    {Quota::kNodeSize, "Max. size of a node"},
    {Quota::kPathMax, "Max. length of a node path"},
    {Quota::kNodePermissions, "Max. number of permissions per node"},
}};

constexpr std::string_view kHelp =
    "check\n"
    "inspect [<cursor>]\n"
    "log on|off\n"
    "logfile <file>\n"
    "memreport [<file>]\n"
    "print <string>\n"
    "quota [set <name> <val>|<domid>]\n"
    "quota-soft [set <name> <val>]\n"
    "help\n";

Answer<void> invalid() { return tl::unexpected(WireError::kInval); }

std::string status_line(std::string_view key) {
  std::string text(8192, '\0');
  const UniqueFd file(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  const ssize_t bytes = read(file.get(), text.data(), text.size());
  text.resize(bytes < 0 ? 0 : static_cast<std::size_t>(bytes));
  const std::size_t at = text.find(key);
  return at == std::string::npos ? std::string() : text.substr(at, text.find('\n', at) - at);
}

}  // namespace

Answer<void> Daemon::do_control(Session& session) {
  Args args = split_strings(session.payload);
  if (args.empty()) return invalid();
  const std::string_view command = args.front();
  args.erase(args.begin());
  reply_.assign("OK", 3);
  const auto count_is = [&args](std::size_t count) { return args.size() == count; };

  if (command == "check" && session.payload.size() == command.size() + 1) return control_check();
  if (command == "log" && count_is(1) && args[0] == "on") {
    if (!trace_.turn_on().has_value()) return invalid();
    return {};
  }
  if (command == "log" && count_is(1) && args[0] == "off") {
    trace_.turn_off();
    return {};
  }
  if (command == "logfile" && count_is(1)) {
    if (!trace_.open(std::string(args[0])).has_value()) return invalid();
    return {};
  }
  if (command == "inspect" && args.size() <= 1) {
    return control_inspect(args.empty() ? std::string_view() : args[0]);
  }
  if (command == "memreport" && args.size() <= 1) return control_memreport(args);
  if (command == "print" && count_is(1)) {
    trace_.print(args[0]);
    return {};
  }
  if (command == "quota") return control_quota(args, false);
  if (command == "quota-soft") return control_quota(args, true);
  if (command == "help" && count_is(0)) {
    reply_ = kHelp;
    reply_ += '\0';
    return {};
  }
  return invalid();
}

std::string Daemon::control_quota_list(bool soft) const {
  std::string list;
  const auto line = [&](std::string_view name, Quota quota, std::string_view text) {
    list += fmt::format("{:<17}: {:>8} {}\n", name, limits_[quota], text);
  };
  if (soft) {
    line("memory", Quota::kSoftMemory, "Total Xenstore memory per domain");
    return list;
  }
  for (const QuotaText& entry : kHardQuotas) line(quota_name(entry.quota), entry.quota, entry.text);
  return list;
}

Answer<void> Daemon::control_quota(const Args& args, bool soft) {
  if (args.empty()) {
    reply_ = control_quota_list(soft);
    reply_ += '\0';
    return {};
  }
  if (args[0] == "set") {
    if (args.size() != 3) return invalid();
    std::string name(args[1]);
    if (soft) name.insert(0, "soft-");
    if (name == "permissions") name.insert(0, "node-");  // as 4.17 calls it
    const auto quota = store::quota_of_name(name);
    const long value = leading_number(args[2]);
    if (!quota.has_value() || (!soft && *quota == Quota::kSoftMemory) || value < 1 ||
        value > 0x7FFFFFFF) {
      return invalid();
    }
    if (!journal_.reserve(journal_.space_for_put(256))) return tl::unexpected(WireError::kNospc);
    set_global_quota(*quota, static_cast<std::uint32_t>(value));
    return {};
  }
  if (soft || args.size() != 1) return invalid();
  const long number = leading_number(args[0]);
  const Domain* domain = number < 0 || number > 0xFFFF
                             ? nullptr
                             : find_domain(store::Domid{static_cast<std::uint16_t>(number)});
  if (domain == nullptr || !domain->is_introduced()) return tl::unexpected(WireError::kNoent);
  const Connection& conn = *find(*domain->conn);
  reply_ = fmt::format(
      "{:<16}: {:>8}\n{:<16}: {:>8}\n{:<16}: {:>8}\n{:<16}: {:>8}\n{:<16}: {:>8}\n", "nodes",
      store_.usage().of(domain->domid).nodes, "watches", conn.watches, "transactions",
      conn.transactions.size(), "outstanding", conn.outstanding.size(), "memory", memory_of(conn));
  reply_ += '\0';
  return {};
}

/// Compares counts with the tree, and the tree with the journal. The findings go
/// to the log; the client learns whether there were any.
Answer<void> Daemon::control_check() {
  commit();  // so that the journal holds what memory holds
  std::vector<std::string> wrong = store_.check();
  for (std::string& difference : compare_with_journal()) wrong.push_back(std::move(difference));
  for (const std::string& line : wrong) log::error("check: " + line);
  log::info(fmt::format("check: {} differences", wrong.size()));
  if (!wrong.empty()) return tl::unexpected(WireError::kIo);
  return {};
}

std::string Daemon::memory_report() const {
  std::size_t watches = 0;
  std::size_t transactions = 0;
  std::size_t unsent = 0;
  for (const auto& [id, conn] : conns_) {
    watches += conn->watches;
    transactions += conn->transactions.size();
    unsent += conn->out.unsent().size();
  }
  return fmt::format(
      "nodes {}\nconnections {}\ndomains {}\nwatches {}\ntransactions {}\nunsent bytes {}\n"
      "journal bytes {}\n{}\n{}\n",
      store_.subtree_nodes("/"), conns_.size(), domains_.size(), watches, transactions, unsent,
      journal_.file_bytes(), status_line("VmRSS"), status_line("RssAnon"));
}

/// Without a file name the report goes to the trace, as far as there is one.
Answer<void> Daemon::control_memreport(const Args& args) {
  const std::string report = memory_report();
  if (args.empty()) {
    if (!trace_.is_on()) return invalid();
    for (std::size_t at = 0; at < report.size();) {
      const std::size_t end = report.find('\n', at);
      trace_.print(std::string_view(report).substr(at, end - at));
      at = end + 1;
    }
    return {};
  }
  const UniqueFd file(
      ::open(std::string(args[0]).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid() || write(file.get(), report.data(), report.size()) < 0) return invalid();
  return {};
}

}  // namespace xenstored
