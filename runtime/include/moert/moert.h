/*===- moert.h - C ABI of the moe-opt runtime --------------------------------===
 *
 * Loads a package that moec wrote, maps the checkpoint's weights and runs steps.
 * Stages: load (check everything) -> session (prepare buffers, initialize
 * weights and kernels) -> step (no allocation, no lock, no lookup).
 *
 * Every call returns NULL on success, or a status that the caller frees with
 * moert_status_free. No call throws, prints or exits. A program may serve
 * several sessions; a session is used by one thread at a time.
 *
 *===-----------------------------------------------------------------------===*/
#ifndef MOERT_MOERT_H
#define MOERT_MOERT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOERT_API __attribute__((visibility("default")))
#define MOERT_ABI_VERSION 1

typedef struct moert_status moert_status;
typedef struct moert_program moert_program;
typedef struct moert_session moert_session;
typedef struct moert_group moert_group;
typedef struct moert_weights moert_weights;

typedef enum {
  MOERT_INVALID_ARGUMENT = 1, /* the caller's input: ids outside the vocabulary, cache too small, ... */
  MOERT_NOT_FOUND = 2,        /* a file or a tensor is missing */
  MOERT_CORRUPT = 3,          /* a checksum, a bound or the format is wrong */
  MOERT_UNSUPPORTED = 4,      /* made by another version, or for a machine this one is not */
  MOERT_OUT_OF_MEMORY = 5,
  MOERT_IO = 6,
  MOERT_DEADLINE = 7,
  MOERT_INTERNAL = 8
} moert_code;

MOERT_API moert_code moert_status_code(const moert_status *status);
/* One line: what is wrong with both values, where, what to do. Owned by the status. */
MOERT_API const char *moert_status_message(const moert_status *status);
MOERT_API void moert_status_free(moert_status *status);

MOERT_API int moert_abi_version(void);
MOERT_API const char *moert_version(void);

/* Opens the package directory, verifies the program file and all checksums, proves every slice inside its buffer
 * and no two unordered commands in conflict. Touches no weight. */
MOERT_API moert_status *moert_program_load(const char *package, moert_program **out);
MOERT_API void moert_program_free(moert_program *program);

typedef struct {
  const char *compiler;
  const char *model_json;
  const char *checkpoint_hint;
  int64_t vocab, max_tokens, max_context;
} moert_program_info;
/* Strings are owned by the program. */
MOERT_API moert_status *moert_program_get_info(const moert_program *program, moert_program_info *out);

/* How many ranks the package was compiled for, and whether each has sequences of its own (1) or all are given the same
 * (0). Either pointer may be NULL. */
MOERT_API moert_status *moert_program_get_ranks(const moert_program *program, int *ranks, int *distributed);

/* Ranks that run a package together, one session each. A collective wait of any of them has the session's deadline; the
 * first failure ends the group, and every rank's error names the rank that it was about.
 *
 * Threads: all ranks are sessions of this process, each used by a thread of its own at the same time (creation and
 * steps wait for each other). Processes: this process is one rank of those that mpirun started, reached through a
 * plugin (NULL: libmoert-mpi.so beside libmoert); it is called from one thread, and freed once, at the end. Processes
 * that something else started (torchrun, a batch system) meet over TCP instead, at a host and port of rank 0; each says
 * which rank it is, and which of those of its machine (from 0 on), whose GPU it takes. */
MOERT_API moert_status *moert_group_create_threads(int ranks, moert_group **out);
MOERT_API moert_status *moert_group_create_processes(const char *plugin, moert_group **out);
MOERT_API moert_status *moert_group_create_rendezvous(const char *host, int port, int rank, int ranks, int local_rank,
                                                      int local_ranks, double deadline_seconds, moert_group **out);
MOERT_API int moert_group_ranks(const moert_group *group);
/* The rank that this process is, -1 if all ranks are threads of it. */
MOERT_API int moert_group_rank(const moert_group *group);
/* A message from `rank` (of this process) to another, and its other end: both sides say how many bytes. For a caller
 * that drives all ranks from one. */
MOERT_API moert_status *moert_group_send(moert_group *group, int rank, int to, const void *data, size_t size,
                                         double deadline_seconds);
MOERT_API moert_status *moert_group_receive(moert_group *group, int rank, int from, void *data, size_t size,
                                            double deadline_seconds);
/* `rank` (of this process) gives up: the waits of all others end with "rank N failed: `reason`". */
MOERT_API void moert_group_abort(moert_group *group, int rank, const char *reason);
/* After a failure: ends every process of a group of processes with this exit status, the caller's too, also those that
 * are stopped. Returns only for threads, for which it does nothing. */
MOERT_API void moert_group_end_job(moert_group *group, int status);
/* Sessions that use the group keep it. */
MOERT_API void moert_group_free(moert_group *group);

typedef struct {
  size_t struct_size;      /* sizeof(moert_session_options) */
  const char *weights;     /* checkpoint directory; NULL: the recorded hint */
  const char *cache;       /* folder for initializer results; NULL: <package>/cache */
  const char *variant;     /* force a variant by target name; NULL: the best that the device runs */
  int64_t sequences;       /* B, >= 1 */
  int64_t context;         /* C, tokens per sequence, >= 1 */
  int64_t max_tokens;      /* 0: the program's; else less or equal */
  int threads;             /* 0: one per available core */
  int verify_weights;      /* also hash whole files */
  double deadline_seconds; /* of every wait inside a step; 0: 30, on the emulator 3600 */
  /* Progress of long stages (may be NULL): stage name, done, total (bytes or items). */
  void (*progress)(void *user, const char *stage, uint64_t done, uint64_t total);
  void *progress_user;
  int pin; /* bind workers to cores (the caller's thread stays free) */
  /* Of a package for several ranks: the group, the rank that this session is (of threads), and how many there must be
   * (0: as many as the group has). */
  moert_group *group;
  int rank, ranks;
  /* "cpu", "cuda" (the first GPU), "cuda:N", or "emulator" (GPU code on the CPU: slow, for correctness). NULL: the CPU
   * if the package has a variant for it, else "cuda". */
  const char *device;
  int graphs; /* of GPUs. 0: steps of few tokens that come again run as CUDA graphs; -1: none does; 1: every step does
               */
  int dependent_launch; /* of GPUs. 0: kernels that can are launched while those before them still run; -1: none is */
} moert_session_options;

MOERT_API moert_status *moert_session_create(moert_program *program, const moert_session_options *options,
                                             moert_session **out);
MOERT_API void moert_session_free(moert_session *session);

/* With a group, all ranks step together: they agree on T first, so that a rank without tokens steps with T = 0 while
 * others have some. Wrong input of one rank is an error on all, and no rank runs.
 *
 * One step over T tokens, sorted by (seq, pos), unique, seq < B, pos < C; rows are M indices into the tokens whose
 * logits are wanted. logits: f32 [M, V]. T = 0 is a step that does nothing. */
typedef struct {
  int64_t token_count;
  const int32_t *tokens, *seq, *pos;
  int64_t row_count;
  const int32_t *rows;
} moert_step_input;
MOERT_API moert_status *moert_session_step(moert_session *session, const moert_step_input *input, float *logits);

/* The same step where only the likeliest token of each row is wanted, for sessions that can choose it where they run
 * (on a GPU; 1 if so): 4 bytes per row come back instead of 4 V. tokens: i32 [M], the lowest id of equal ones; -1 - i
 * where logit i is the first that is not a number. */
MOERT_API int moert_session_can_pick(const moert_session *session);
MOERT_API moert_status *moert_session_pick(moert_session *session, const moert_step_input *input, int32_t *tokens);

/* A program may have entries beside `step`: named pieces of the model (one sub-layer, say) that share its weights and
 * states. Entry 0 is `step`, whose only result are the logits. */
typedef struct {
  const char *name;           /* owned by the session */
  int64_t per_token, per_row; /* its bytes are per_token * T + per_row * M; one of the two is 0 */
} moert_argument;
typedef struct {
  const char *name;
  size_t input_count, output_count;
  const moert_argument *inputs, *outputs;
} moert_entry_info;
MOERT_API size_t moert_session_entry_count(const moert_session *session);
MOERT_API moert_status *moert_session_get_entry(const moert_session *session, size_t entry, moert_entry_info *out);

/* One step of an entry: `inputs` and `outputs` are arrays of its arguments, in the order of moert_entry_info, aligned
 * to 4 bytes; an output overlaps no other argument. */
MOERT_API moert_status *moert_session_run(moert_session *session, size_t entry, const moert_step_input *input,
                                          const void *const *inputs, void *const *outputs);

/* Bytes of a named buffer (an expert-count state, for instance); copies at most `capacity` bytes. */
MOERT_API moert_status *moert_session_read(moert_session *session, const char *buffer, void *out, size_t capacity,
                                           size_t *size);
/* What the session runs on: "cpu", "cuda" or "emulator", and its name. Owned by the session. */
MOERT_API moert_status *moert_session_get_device(const moert_session *session, const char **kind, const char **name);
/* Zeroes every state. */
MOERT_API moert_status *moert_session_reset(moert_session *session);

/* Per-command timing: enable, run steps, then write Perfetto (Chrome trace) JSON, or read totals as JSON. */
MOERT_API moert_status *moert_session_trace(moert_session *session, int enable);
MOERT_API moert_status *moert_session_write_trace(moert_session *session, const char *path);
/* A JSON object {"variant":..., "threads":..., "weight_bytes":..., "arena_bytes":..., "state_bytes":...,
 * "commands":[...]}; owned by the session, valid until the next call. */
MOERT_API moert_status *moert_session_report(moert_session *session, const char **json);

/* The weights of a program without a session, for tools: one tensor at a time by its name in the program. What lies in
 * the checkpoint is read there; what is computed is computed when it is asked for, and `data` is valid until the next
 * read. Of the options, those about weights, variant, threads, deadline and progress are used. */
MOERT_API moert_status *moert_weights_open(moert_program *program, const moert_session_options *options,
                                           moert_weights **out);
MOERT_API moert_status *moert_weights_read(moert_weights *weights, const char *name, const void **data, size_t *size);
MOERT_API void moert_weights_free(moert_weights *weights);

#ifdef __cplusplus
}
#endif

#endif /* MOERT_MOERT_H */
