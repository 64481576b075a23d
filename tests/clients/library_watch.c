/* SPDX-License-Identifier: MIT */
/* A client of libxenstore that lives long and does with one handle what libxl does: it watches,
 * polls, writes, reads and commits, again and again, and ends at the first error.
 *
 *   library-watch check WATCHED OWN    events by poll on xs_fileno and xs_check_watch, as libxl
 *   library-watch read WATCHED OWN     events by xs_read_watch, in a thread
 *
 * It prints "event <path>" for each event. Its n-th change is OWN/<n % 900> = n; OWN must be
 * there. A line on stdin makes it begin to change things, the next one makes it stop and print
 * "changed <n> retried <m>"; the end of stdin ends it. Exit code 1: something failed, the reason is
 * on stderr. */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xenstore.h>

enum {
  SLOTS = 900,
  PAUSE_MS = 8,        /* between two changes */
  OPEN_US = 3000,      /* for which a transaction is open */
  TRANSACTION_EVERY = 3 /* changes */
};

static const char TOKEN[] = "library watch";

static void fail(const char* what) {
  fprintf(stderr, "library-watch: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void print_event(char** event) {
  if (strcmp(event[XS_WATCH_TOKEN], TOKEN) != 0) fail(event[XS_WATCH_TOKEN]);
  printf("event %s\n", event[XS_WATCH_PATH]);
  free(event);
}

static void take_events(struct xs_handle* handle) {
  char** event;
  while ((event = xs_check_watch(handle)) != NULL) print_event(event);
  if (errno != EAGAIN) fail("xs_check_watch");
}

static void* read_events(void* handle) {
  unsigned int count;
  char** event;
  while ((event = xs_read_watch(handle, &count)) != NULL) print_event(event);
  fail("xs_read_watch");
  return NULL;
}

static long now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* False: to be tried again. */
static bool write_in_transaction(struct xs_handle* handle, const char* path, const char* value) {
  const xs_transaction_t transaction = xs_transaction_start(handle);
  if (transaction == XBT_NULL) fail("xs_transaction_start");
  if (!xs_write(handle, transaction, path, value, (unsigned int)strlen(value))) {
    fail("xs_write in a transaction");
  }
  usleep(OPEN_US);
  if (xs_transaction_end(handle, transaction, false)) return true;
  if (errno != EAGAIN) fail("xs_transaction_end");
  return false;
}

static void check_value(struct xs_handle* handle, const char* path, const char* expected) {
  char* const value = xs_read(handle, XBT_NULL, path, NULL);
  if (value == NULL) fail("xs_read");
  if (strcmp(value, expected) != 0) {
    fprintf(stderr, "library-watch: %s holds %s, not %s\n", path, value, expected);
    exit(1);
  }
  free(value);
}

/* Returns how often a transaction had to be tried again. */
static unsigned int change(struct xs_handle* handle, const char* own, unsigned int number) {
  char path[256];
  char value[16];
  unsigned int retries = 0;
  snprintf(path, sizeof path, "%s/%u", own, number % SLOTS);
  snprintf(value, sizeof value, "%u", number);
  if (number % TRANSACTION_EVERY == 0) {
    while (!write_in_transaction(handle, path, value)) ++retries;
  } else if (!xs_write(handle, XBT_NULL, path, value, (unsigned int)strlen(value))) {
    fail("xs_write");
  }
  check_value(handle, path, value);
  return retries;
}

/* Until stdin ends. `is_polling`: takes events, too. */
static void live(struct xs_handle* handle, const char* own, bool is_polling) {
  struct pollfd fds[] = {{STDIN_FILENO, POLLIN, 0},
                         {is_polling ? xs_fileno(handle) : -1, POLLIN, 0}};
  unsigned int changed = 0;
  unsigned int retried = 0;
  bool is_changing = false;
  long due_ms = now_ms();
  for (;;) {
    char line[16];
    if (poll(fds, 2, is_changing ? PAUSE_MS : -1) < 0) fail("poll");
    if (fds[1].revents != 0) take_events(handle);
    if (fds[0].revents != 0) {
      if (read(STDIN_FILENO, line, sizeof line) <= 0) return;
      is_changing = !is_changing;
      if (!is_changing) printf("changed %u retried %u\n", changed, retried);
    }
    if (is_changing && now_ms() >= due_ms) {
      retried += change(handle, own, changed++);
      due_ms = now_ms() + PAUSE_MS;
    }
  }
}

int main(int argc, char* argv[]) {
  if (argc != 4) {
    fprintf(stderr, "usage: library-watch check|read WATCHED OWN\n");
    return 2;
  }
  const bool is_polling = strcmp(argv[1], "check") == 0;
  setvbuf(stdout, NULL, _IOLBF, 0);

  struct xs_handle* const handle = xs_open(0);  /* as libxl_ctx_alloc */
  if (handle == NULL) fail("xs_open");
  if (!xs_watch(handle, argv[2], TOKEN)) fail("xs_watch");
  pthread_t reader;
  if (!is_polling && pthread_create(&reader, NULL, read_events, handle) != 0) fail("a thread");
  live(handle, argv[3], is_polling);
  return 0; /* the reader may still be waiting for an event */
}
