/* next-token: an outside program on the C interface of the runtime. Runs one step and prints the likeliest next id.
 *
 *   next-token PACKAGE ID [ID...]
 */
#include <moert/moert.h>
#include <stdio.h>
#include <stdlib.h>

/* Ends the program with the message of a status that is not ok. */
static void check(moert_status *status) {
  if (status) {
    fprintf(stderr, "next-token: %s\n", moert_status_message(status));
    moert_status_free(status);
    exit(1);
  }
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: next-token PACKAGE ID [ID...]\n");
    return 1;
  }
  int count = argc - 2;
  moert_program *program;
  moert_session *session;
  moert_program_info info;
  check(moert_program_load(argv[1], &program));
  check(moert_program_get_info(program, &info));
  moert_session_options options = {.struct_size = sizeof options, .sequences = 1, .context = count, .threads = 1};
  check(moert_session_create(program, &options, &session));

  int32_t *tokens = calloc((size_t)count, sizeof *tokens), *seq = calloc((size_t)count, sizeof *seq);
  int32_t *pos = calloc((size_t)count, sizeof *pos), last = count - 1;
  float *logits = calloc((size_t)info.vocab, sizeof *logits);
  for (int i = 0; i < count; ++i) {
    tokens[i] = atoi(argv[2 + i]);
    pos[i] = i;
  }
  moert_step_input input = {count, tokens, seq, pos, 1, &last};
  check(moert_session_step(session, &input, logits));

  int64_t best = 0;
  for (int64_t id = 1; id < info.vocab; ++id) {
    best = logits[id] > logits[best] ? id : best;
  }
  printf("%lld\n", (long long)best);
  free(tokens), free(seq), free(pos), free(logits);
  moert_session_free(session);
  moert_program_free(program);
  return 0;
}
