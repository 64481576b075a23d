// SPDX-License-Identifier: MIT
#include "xenstored/options.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <vector>

namespace xenstored {
namespace {

store::Result<Options, std::string> parse(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "xenstored");
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  return parse_options(static_cast<int>(arguments.size()), argv.data());
}

class OptionsTest : public testing::Test {
 protected:
  void SetUp() override {
    ::unsetenv("XENSTORED_RUNDIR");
    ::unsetenv("XENSTORED_PATH");
  }
  void TearDown() override { SetUp(); }
};

TEST_F(OptionsTest, DefaultsAreThoseOf417) {
  const auto parsed = parse({});
  ASSERT_TRUE(parsed.has_value());
  const Options& options = parsed.value();
  EXPECT_FALSE(options.foreground);
  EXPECT_FALSE(options.no_domain_init);
  EXPECT_FALSE(options.inherited);
  EXPECT_EQ(options.run_dir, "/run/xenstored");
  EXPECT_EQ(options.socket_path, "/run/xenstored/socket");
  EXPECT_EQ(options.area, "/run/xenstored/area");
  EXPECT_EQ(options.server_pid_file(), "/run/xenstored/xenstored-server.pid");
  EXPECT_EQ(options.log_to, "syslog");
  EXPECT_EQ(options.watch_event_timeout_s, 20u);
  EXPECT_EQ(options.quotas.nodes, 1000u);
  EXPECT_EQ(options.quotas.watches, 128u);
  EXPECT_EQ(options.quotas.transactions, 10u);
  EXPECT_EQ(options.quotas.outstanding, 20u);
  EXPECT_EQ(options.quotas.memory_hard, 2621440u);
  EXPECT_EQ(options.quotas.memory_soft, 2097152u);
  EXPECT_EQ(options.quotas.transaction_nodes, 1024u);
  EXPECT_EQ(options.quotas.node_permissions, 5u);
  EXPECT_EQ(options.quotas.path_max, 2048u);
  EXPECT_EQ(options.quotas.node_size, 2048u);
}

struct Accepted {
  std::vector<std::string> arguments;
  std::function<bool(const Options&)> holds;
};

TEST_F(OptionsTest, EveryOptionOf417AndOurOwn) {
  const Accepted rows[] = {
      {{"-D"}, [](auto& o) { return o.no_domain_init; }},
      {{"--no-domain-init"}, [](auto& o) { return o.no_domain_init; }},
      {{"-N"}, [](auto& o) { return o.foreground && o.log_to == "stderr"; }},
      {{"--no-fork"}, [](auto& o) { return o.foreground; }},
      {{"-P"}, [](auto& o) { return o.print_pid; }},
      {{"--output-pid"}, [](auto& o) { return o.print_pid; }},
      {{"-K"}, [](auto& o) { return o.keep_orphans; }},
      {{"--keep-orphans"}, [](auto& o) { return o.keep_orphans; }},
      {{"-V"}, [](auto& o) { return o.verbose; }},
      {{"--verbose"}, [](auto& o) { return o.verbose; }},
      {{"-H"}, [](auto& o) { return o.show_help; }},
      {{"--help"}, [](auto& o) { return o.show_help; }},
      {{"-F", "/run/x.pid"}, [](auto& o) { return o.pid_file == "/run/x.pid"; }},
      {{"--pid-file=/run/x.pid"}, [](auto& o) { return o.pid_file == "/run/x.pid"; }},
      {{"--pid-file", "/run/x.pid"}, [](auto& o) { return o.pid_file == "/run/x.pid"; }},
      {{"-T", "/var/t"}, [](auto& o) { return o.trace_file == "/var/t"; }},
      {{"--trace-file", "/var/t"}, [](auto& o) { return o.trace_file == "/var/t"; }},
      {{"-E", "7"}, [](auto& o) { return o.quotas.nodes == 7; }},
      {{"--entry-nb", "7"}, [](auto& o) { return o.quotas.nodes == 7; }},
      {{"-S", "4000"}, [](auto& o) { return o.quotas.node_size == 4000; }},
      {{"--entry-size", "4000"}, [](auto& o) { return o.quotas.node_size == 4000; }},
      {{"-t32"}, [](auto& o) { return o.quotas.transactions == 32; }},
      {{"-A", "9"}, [](auto& o) { return o.quotas.node_permissions == 9; }},
      {{"--perm-nb", "9"}, [](auto& o) { return o.quotas.node_permissions == 9; }},
      {{"-M", "256"}, [](auto& o) { return o.quotas.path_max == 256; }},
      {{"--path-max=256"}, [](auto& o) { return o.quotas.path_max == 256; }},
      {{"-M", "9999"}, [](auto& o) { return o.quotas.path_max == 2048; }},
      {{"-W", "512"}, [](auto& o) { return o.quotas.watches == 512; }},
      // What Qubes gives.
      {{"--transaction=32", "--watch-nb=512"},
       [](auto& o) { return o.quotas.transactions == 32 && o.quotas.watches == 512; }},
      {{"-Q", "outstanding=3"}, [](auto& o) { return o.quotas.outstanding == 3; }},
      {{"-Q", "transaction-nodes=4"}, [](auto& o) { return o.quotas.transaction_nodes == 4; }},
      {{"--quota", "memory=0"}, [](auto& o) { return o.quotas.memory_hard == 0; }},
      {{"--quota", "nodes=11"}, [](auto& o) { return o.quotas.nodes == 11; }},
      {{"--quota", "watches=12"}, [](auto& o) { return o.quotas.watches == 12; }},
      {{"--quota", "transactions=13"}, [](auto& o) { return o.quotas.transactions == 13; }},
      {{"--quota", "node-permissions=6"}, [](auto& o) { return o.quotas.node_permissions == 6; }},
      {{"--quota", "path-max=100"}, [](auto& o) { return o.quotas.path_max == 100; }},
      {{"--quota", "node-size=3000"}, [](auto& o) { return o.quotas.node_size == 3000; }},
      {{"-q", "memory=5"}, [](auto& o) { return o.quotas.memory_soft == 5; }},
      {{"--quota-soft", "memory=2147483647"},
       [](auto& o) { return o.quotas.memory_soft == 2147483647; }},
      {{"-w", "watch-event=0"}, [](auto& o) { return o.watch_event_timeout_s == 0; }},
      {{"--timeout", "watch-event=60"}, [](auto& o) { return o.watch_event_timeout_s == 60; }},
      {{"-e", "5"}, [](auto& o) { return o.event_port == 5u; }},
      {{"--event", "5"}, [](auto& o) { return o.event_port == 5u; }},
      {{"-m", "2"}, [](auto& o) { return o.master_domid == 2; }},
      {{"--master-domid", "2"}, [](auto& o) { return o.master_domid == 2; }},
      {{"-p", "1"}, [](auto& o) { return o.priv_domid == 1; }},
      {{"--priv-domid", "1"}, [](auto& o) { return o.priv_domid == 1; }},
      {{"-R", "-I", "-Ioff", "--internal-db=on", "--internal-db", "--no-recovery", "-U",
        "--live-update", "-N"},
       [](auto& o) { return o.foreground; }},
      {{"--supervise"}, [](auto& o) { return o.supervise; }},
      {{"--area", "/dev/shm/a"}, [](auto& o) { return o.area == "/dev/shm/a"; }},
      {{"--log", "stderr"}, [](auto& o) { return o.log_to == "stderr"; }},
      {{"-N", "--log", "syslog"}, [](auto& o) { return o.log_to == "syslog"; }},
      {{"--log=/var/log/x"}, [](auto& o) { return o.log_to == "/var/log/x"; }},
      // Not ours: getopt says so on stderr, and the rest counts.
      {{"--no-such-thing", "-Z", "-N"}, [](auto& o) { return o.foreground; }},
  };
  for (const Accepted& row : rows) {
    SCOPED_TRACE(testing::PrintToString(row.arguments));
    const auto parsed = parse(row.arguments);
    ASSERT_TRUE(parsed.has_value()) << parsed.error();
    EXPECT_TRUE(row.holds(parsed.value()));
  }
}

TEST_F(OptionsTest, MistakesAreNamed) {
  const struct {
    std::vector<std::string> arguments;
    std::string named;
  } rows[] = {
      {{"-E", "many"}, "--entry-nb"},
      {{"-E", "-1"}, "-1"},
      {{"-E", "12x"}, "12x"},
      {{"-t", ""}, "--transaction"},
      {{"-W", "2147483648"}, "2147483648"},
      {{"-W", "99999999999999999999"}, "--watch-nb"},
      {{"-Q", "memory"}, "memory"},
      {{"-Q", "memory="}, "--quota memory"},
      {{"-Q", "smoke=1"}, "smoke"},
      {{"-q", "outstanding=1"}, "outstanding"},
      {{"-w", "20"}, "watch-event"},
      {{"-w", "watch-event=soon"}, "soon"},
      {{"-e", "x"}, "--event"},
      {{"--kept=1,2,3,4"}, "--kept"},
      {{"-N", "extra"}, "extra"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(testing::PrintToString(row.arguments));
    const auto parsed = parse(row.arguments);
    ASSERT_FALSE(parsed.has_value());
    EXPECT_NE(parsed.error().find(row.named), std::string::npos) << parsed.error();
  }
}

TEST_F(OptionsTest, EnvironmentNamesRunDirectoryAndSocket) {
  ::setenv("XENSTORED_RUNDIR", "/tmp/run", 1);
  EXPECT_EQ(parse({}).value().socket_path, "/tmp/run/socket");
  EXPECT_EQ(parse({}).value().area, "/tmp/run/area");
  ::setenv("XENSTORED_PATH", "/tmp/elsewhere", 1);
  EXPECT_EQ(parse({}).value().socket_path, "/tmp/elsewhere");
  EXPECT_EQ(parse({}).value().run_dir, "/tmp/run");
  ::setenv("XENSTORED_RUNDIR", "", 1);
  EXPECT_EQ(parse({}).value().run_dir, "/run/xenstored");
}

TEST_F(OptionsTest, RelativeNamesAreTakenFromTheDirectoryOfTheFirstStart) {
  const auto here = std::filesystem::current_path().string();
  EXPECT_EQ(parse({"-F", "x.pid"}).value().pid_file, here + "/x.pid");
  EXPECT_EQ(parse({"--log", "x.log"}).value().log_to, here + "/x.log");

  const auto server = parse({"--kept=3,4,5,6,7,/was/here", "--area", "a", "-F", "x.pid"});
  ASSERT_TRUE(server.has_value());
  EXPECT_EQ(server.value().area, "/was/here/a");
  EXPECT_EQ(server.value().pid_file, "/was/here/x.pid");
  ASSERT_TRUE(server.value().inherited);
  EXPECT_EQ(server.value().inherited->listen_fd, 3);
  EXPECT_EQ(server.value().inherited->ready_fd, 4);
  EXPECT_EQ(server.value().inherited->lock_fd, 5);
}

TEST(Usage, NamesEveryLongOption) {
  for (const char* name :
       {"--no-fork",    "--supervise",    "--pid-file",     "--output-pid",  "--no-domain-init",
        "--help",       "--area",         "--keep-orphans", "--entry-nb",    "--entry-size",
        "--watch-nb",   "--transaction",  "--perm-nb",      "--path-max",    "--quota",
        "--quota-soft", "--timeout",      "--log",          "--trace-file",  "--verbose",
        "--event",      "--master-domid", "--priv-domid",   "--internal-db", "--no-recovery",
        "--live-update"}) {
    EXPECT_NE(usage().find(name), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace xenstored
