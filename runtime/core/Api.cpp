// The C ABI (runtime/include/moert/moert.h) over Program, Group, Session and WeightReader: null checks, ownership,
// statuses. No logic.
#include "runtime/core/Abandon.h"
#include "runtime/core/Session.h"
#include "runtime/core/WeightReader.h"
#include "runtime/ranks/TcpTransport.h"

#include <cstddef>
#include <cstring>
#include <new>

#ifndef MOERT_VERSION
#error "the build defines MOERT_VERSION"
#endif

struct moert_status {
  moert_code code;
  std::string message;
};

struct moert_program {
  std::shared_ptr<moert::Program> program;
};

struct moert_session {
  std::unique_ptr<moert::Session> session;
};

struct moert_group {
  std::shared_ptr<moert::Group> group;
};

struct moert_weights {
  std::unique_ptr<moert::WeightReader> reader;
};

namespace {

using moert::Code;
using moert::Status;

/// Null for ok. Prefix: what was being done, if the message alone does not say.
moert_status *give(const Status &status) {
  return status.ok() ? nullptr : new moert_status{moert_code(status.code()), status.message()};
}

moert_status *nullArgument(const char *function, const char *name) {
  return give(moert::error(Code::InvalidArgument, function, ": ", name, " is NULL"));
}

moert_status *giveGroup(moert::Result<std::shared_ptr<moert::Group>> group, moert_group **out) {
  if (!group.ok()) {
    return give(group.status());
  }
  *out = new moert_group{std::move(*group)};
  return nullptr;
}

/// The communicator of `rank`, or what is wrong with the arguments of a message.
moert_status *checkMessage(const char *function, moert_group *group, int rank, int other, const void *data, size_t size,
                           double deadline, moert::Communicator *&out) {
  if (!group || (!data && size)) {
    return nullArgument(function, group ? "data" : "group");
  }
  out = group->group->member(rank);
  if (!out || other < 0 || other >= out->ranks() || other == rank) {
    return give(moert::error(Code::InvalidArgument, function, ": ranks ", rank, " and ", other, " of ",
                             group->group->ranks(), ": the first must be of this process, the second another"));
  }
  if (!(deadline > 0)) {
    return give(moert::error(Code::InvalidArgument, function, ": a deadline of ", deadline, " seconds"));
  }
  return nullptr;
}

int64_t nanoseconds(double seconds) { return int64_t((seconds < 1e9 ? seconds : 1e9) * 1e9); }

/// Options of an older or newer caller: what it does not know is zero, what this runtime does not know must be.
Status readOptions(const moert_session_options &given, moert_session_options &options) {
  constexpr size_t least = offsetof(moert_session_options, progress_user) + sizeof(void *);
  if (given.struct_size < least || given.struct_size > 4096) {
    return moert::error(Code::InvalidArgument, "moert_session_options.struct_size is ", given.struct_size,
                        ", must be sizeof(moert_session_options), here ", sizeof(options));
  }
  const auto *bytes = reinterpret_cast<const unsigned char *>(&given);
  for (size_t i = sizeof(options); i < given.struct_size; ++i) {
    if (bytes[i]) {
      return moert::error(Code::Unsupported,
                          "moert_session_options has fields that this runtime does not know: use the "
                          "runtime that belongs to the header");
    }
  }
  options = {};
  memcpy(&options, &given, given.struct_size < sizeof(options) ? given.struct_size : sizeof(options));
  return {};
}

} // namespace

extern "C" {

moert_code moert_status_code(const moert_status *status) { return status ? status->code : moert_code(0); }

const char *moert_status_message(const moert_status *status) { return status ? status->message.c_str() : "ok"; }

void moert_status_free(moert_status *status) { delete status; }

int moert_abi_version(void) { return MOERT_ABI_VERSION; }

const char *moert_version(void) { return MOERT_VERSION; }

moert_status *moert_program_load(const char *package, moert_program **out) {
  if (!package || !out) {
    return nullArgument("moert_program_load", package ? "out" : "package");
  }
  *out = nullptr;
  auto program = moert::Program::load(package);
  if (!program.ok()) {
    return give(program.status());
  }
  *out = new moert_program{std::move(*program)};
  return nullptr;
}

void moert_program_free(moert_program *program) { delete program; }

moert_status *moert_program_get_info(const moert_program *program, moert_program_info *out) {
  if (!program || !out) {
    return nullArgument("moert_program_get_info", program ? "out" : "program");
  }
  const moert::format::Program &root = program->program->root();
  out->compiler = root.compiler()->c_str();
  out->model_json = root.model_json()->c_str();
  out->checkpoint_hint = root.checkpoint_hint() ? root.checkpoint_hint()->c_str() : "";
  out->vocab = root.vocab();
  out->max_tokens = root.max_tokens();
  out->max_context = root.max_context();
  return nullptr;
}

moert_status *moert_program_get_ranks(const moert_program *program, int *ranks, int *distributed) {
  if (!program) {
    return nullArgument("moert_program_get_ranks", "program");
  }
  const moert::Program &loaded = *program->program;
  const bool known = loaded.variantCount() != 0;
  if (ranks) {
    *ranks = known ? loaded.variant(0).ranks() : 1;
  }
  if (distributed) {
    *distributed = known && loaded.variant(0).rank_inputs() == moert::format::RankInputs::Distributed;
  }
  return nullptr;
}

moert_status *moert_group_create_threads(int ranks, moert_group **out) {
  if (!out) {
    return nullArgument("moert_group_create_threads", "out");
  }
  *out = nullptr;
  return giveGroup(moert::makeThreadGroup(ranks), out);
}

moert_status *moert_group_create_processes(const char *plugin, moert_group **out) {
  if (!out) {
    return nullArgument("moert_group_create_processes", "out");
  }
  *out = nullptr;
  return giveGroup(moert::joinProcessGroup(plugin ? plugin : ""), out);
}

moert_status *moert_group_create_rendezvous(const char *host, int port, int rank, int ranks, int local_rank,
                                            int local_ranks, double deadline_seconds, moert_group **out) {
  if (!host || !out) {
    return nullArgument("moert_group_create_rendezvous", host ? "out" : "host");
  }
  *out = nullptr;
  return giveGroup(
      moert::joinRendezvous({host, port, rank, ranks, local_rank, local_ranks}, nanoseconds(deadline_seconds)), out);
}

int moert_group_ranks(const moert_group *group) { return group ? group->group->ranks() : 0; }

int moert_group_rank(const moert_group *group) { return group ? group->group->ownRank() : -1; }

moert_status *moert_group_send(moert_group *group, int rank, int to, const void *data, size_t size,
                               double deadline_seconds) {
  moert::Communicator *member = nullptr;
  if (moert_status *wrong = checkMessage("moert_group_send", group, rank, to, data, size, deadline_seconds, member)) {
    return wrong;
  }
  return member->send(to, data, size, nanoseconds(deadline_seconds)) ? nullptr : give(member->failure());
}

moert_status *moert_group_receive(moert_group *group, int rank, int from, void *data, size_t size,
                                  double deadline_seconds) {
  moert::Communicator *member = nullptr;
  if (moert_status *wrong =
          checkMessage("moert_group_receive", group, rank, from, data, size, deadline_seconds, member)) {
    return wrong;
  }
  return member->receive(from, data, size, nanoseconds(deadline_seconds)) ? nullptr : give(member->failure());
}

void moert_group_abort(moert_group *group, int rank, const char *reason) {
  if (moert::Communicator *member = group ? group->group->member(rank) : nullptr) {
    member->abort(Code::Internal, reason ? reason : "no reason given");
  }
}

void moert_group_end_job(moert_group *group, int status) {
  if (moert::Communicator *member = group ? group->group->member(group->group->ownRank()) : nullptr) {
    member->endJob(status);
  }
}

void moert_group_free(moert_group *group) { delete group; }

moert_status *moert_session_create(moert_program *program, const moert_session_options *options, moert_session **out) {
  if (!program || !options || !out) {
    return nullArgument("moert_session_create", !program ? "program" : !options ? "options" : "out");
  }
  *out = nullptr;
  moert_session_options known;
  if (Status status = readOptions(*options, known); !status.ok()) {
    return give(status);
  }
  auto session = moert::Session::create(program->program,
                                        known.group ? known.group->group : std::shared_ptr<moert::Group>(), known);
  if (!session.ok()) {
    return give(session.status());
  }
  *out = new moert_session{std::move(*session)};
  return nullptr;
}

void moert_session_free(moert_session *session) {
  if (session && !session->session->canBeFreed()) {
    moert::abandon(std::move(session->session));
  }
  delete session;
}

moert_status *moert_session_step(moert_session *session, const moert_step_input *input, float *logits) {
  if (!session || !input) {
    return nullArgument("moert_session_step", session ? "input" : "session");
  }
  return give(session->session->step(*input, logits));
}

int moert_session_can_pick(const moert_session *session) { return session && session->session->canPick(); }

moert_status *moert_session_pick(moert_session *session, const moert_step_input *input, int32_t *tokens) {
  if (!session || !input) {
    return nullArgument("moert_session_pick", session ? "input" : "session");
  }
  return give(session->session->pick(*input, tokens));
}

size_t moert_session_entry_count(const moert_session *session) { return session ? session->session->entryCount() : 0; }

moert_status *moert_session_get_entry(const moert_session *session, size_t entry, moert_entry_info *out) {
  if (!session || !out) {
    return nullArgument("moert_session_get_entry", session ? "out" : "session");
  }
  if (entry >= session->session->entryCount()) {
    return give(moert::error(moert::Code::InvalidArgument, "there is no entry ", entry, ", the program has ",
                             session->session->entryCount()));
  }
  *out = session->session->entryInfo(entry);
  return nullptr;
}

moert_status *moert_session_run(moert_session *session, size_t entry, const moert_step_input *input,
                                const void *const *inputs, void *const *outputs) {
  if (!session || !input) {
    return nullArgument("moert_session_run", session ? "input" : "session");
  }
  return give(session->session->run(entry, *input, inputs, outputs));
}

moert_status *moert_session_read(moert_session *session, const char *buffer, void *out, size_t capacity, size_t *size) {
  if (!session || !buffer) {
    return nullArgument("moert_session_read", session ? "buffer" : "session");
  }
  return give(session->session->read(buffer, out, capacity, size));
}

moert_status *moert_session_get_device(const moert_session *session, const char **kind, const char **name) {
  if (!session || !kind || !name) {
    return nullArgument("moert_session_get_device", !session ? "session" : !kind ? "kind" : "name");
  }
  *kind = session->session->deviceKind();
  *name = session->session->deviceName();
  return nullptr;
}

moert_status *moert_session_reset(moert_session *session) {
  return session ? give(session->session->reset()) : nullArgument("moert_session_reset", "session");
}

moert_status *moert_session_trace(moert_session *session, int enable) {
  if (!session) {
    return nullArgument("moert_session_trace", "session");
  }
  session->session->enableTrace(enable != 0);
  return nullptr;
}

moert_status *moert_session_write_trace(moert_session *session, const char *path) {
  if (!session || !path) {
    return nullArgument("moert_session_write_trace", session ? "path" : "session");
  }
  return give(session->session->writeTrace(path));
}

moert_status *moert_session_report(moert_session *session, const char **json) {
  if (!session || !json) {
    return nullArgument("moert_session_report", session ? "json" : "session");
  }
  *json = session->session->report();
  return nullptr;
}

moert_status *moert_weights_open(moert_program *program, const moert_session_options *options, moert_weights **out) {
  if (!program || !options || !out) {
    return nullArgument("moert_weights_open", !program ? "program" : !options ? "options" : "out");
  }
  *out = nullptr;
  moert_session_options known;
  if (Status status = readOptions(*options, known); !status.ok()) {
    return give(status);
  }
  auto reader = moert::WeightReader::open(program->program, known);
  if (!reader.ok()) {
    return give(reader.status());
  }
  *out = new moert_weights{std::move(*reader)};
  return nullptr;
}

moert_status *moert_weights_read(moert_weights *weights, const char *name, const void **data, size_t *size) {
  if (!weights || !name || !data || !size) {
    return nullArgument("moert_weights_read", !weights ? "weights" : !name ? "name" : !data ? "data" : "size");
  }
  return give(weights->reader->read(name, data, size));
}

void moert_weights_free(moert_weights *weights) {
  if (weights && !weights->reader->canBeFreed()) {
    moert::abandon(std::move(weights->reader));
  }
  delete weights;
}

} // extern "C"
