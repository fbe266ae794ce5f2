//===- WindowFit.cpp - Repairs windows and says what is left --------------===//
#include "tools/moe-run/calibrate/WindowFit.h"

#include <algorithm>

using namespace moert;
using namespace moerun;

namespace {

constexpr Form kForms[] = {Form::Removed, Form::Deferred, Form::Pair};
const std::vector<Map> kNoMaps;

/// Shares of the time that the parts of a fit take, roughly: fitting, judging a stage, judging on all text.
constexpr double kFitShare = 0.1, kStageShare = 0.07, kWholeShare = 0.245;

bool hasMaps(const std::vector<Map> &maps, int64_t length) {
  return std::any_of(maps.begin(), maps.begin() + std::min(length, int64_t(maps.size())),
                     [](const Map &map) { return !map.empty(); });
}

double squares(const Stream &x, const Stream &y) {
  double total = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    total += (double(x[i]) - y[i]) * (double(x[i]) - y[i]);
  }
  return total;
}

} // namespace

int64_t WindowFit::longest(std::optional<Form> form) const {
  int64_t length = 0;
  for (const Job &job : jobs) {
    length = !form || job.result->window.form == *form ? std::max(length, job.result->window.length) : length;
  }
  return length;
}

const std::vector<Map> &WindowFit::ffnMaps(const Job &job, bool mapped) const {
  return !mapped ? kNoMaps : job.result->window.form == Form::Removed ? removedFFNMaps : job.ffnMaps;
}

void WindowFit::target(Branch branch, size_t sequence, int64_t layer, Stream &normed) const {
  const Stream &x =
      branch == Branch::Attention ? calibration.before(sequence, layer) : calibration.inside(sequence, layer);
  normalize(x, model.hidden(), model.norm(branch, layer).eps, normed);
}

void WindowFit::advance(double share) {
  done += share;
  step(std::min(done, 1.0));
}

//===----------------------------------------------------------------------===//
// Fitting, on calibration text
//===----------------------------------------------------------------------===//

Status WindowFit::fitShared(Branch branch, int64_t begin, int64_t length, std::vector<Map> &maps) {
  // Every branch that there is, from layer first + begin on, reads the stream before layer `first`.
  std::vector<int64_t> readers;
  for (int64_t j = begin; j < length; ++j) {
    if (branch == Branch::Attention ? runner.hasAttention(first + j) : model.has(branch, first + j)) {
      readers.push_back(j);
    }
  }
  maps.assign(size_t(length), Map());
  if (readers.empty()) {
    return {};
  }
  const double eps = model.norm(branch, first + readers.back()).eps;
  Moments moments(model.hidden(), size_t(length), options.threads);
  Stream input;
  std::vector<Stream> values(static_cast<size_t>(length));
  std::vector<const Stream *> targets(static_cast<size_t>(length), nullptr);
  for (size_t s = 0; s < calibration.count(); ++s) {
    for (int64_t j : readers) {
      target(branch, s, first + j, values[size_t(j)]);
      targets[size_t(j)] = &values[size_t(j)];
    }
    normalize(calibration.before(s, first), model.hidden(), eps, input);
    moments.add(input, targets);
  }
  maps = moments.solve(options.ridge);
  return {};
}

Status WindowFit::fitDeferred(int64_t length) {
  std::vector<Map> &maps = attentionMaps[size_t(Form::Deferred)];
  maps.assign(size_t(length), Map());
  // Each map is fitted on what the attentions before it give with their maps.
  for (int64_t j = 1; j < length; ++j) {
    if (!runner.hasAttention(first + j)) {
      continue;
    }
    const Window window{first, j, Form::Deferred};
    const double eps = model.norm(Branch::Attention, first + j).eps;
    Moments moments(model.hidden(), 1, options.threads);
    Stream input, wanted;
    for (size_t s = 0; s < calibration.count(); ++s) {
      calibration.select(s);
      target(Branch::Attention, s, first + j, wanted);
      MOERT_TRY(
          runner.attend(window, maps, calibration.before(s, first), [&](int64_t reached, const Stream &z) -> Status {
            if (reached == j) {
              normalize(z, model.hidden(), eps, input);
              runner.hide(model.norm(Branch::Attention, first + j).scale, input);
              moments.add(input, {&wanted});
            }
            return {};
          }));
    }
    maps[size_t(j)] = std::move(moments.solve(options.ridge)[0]);
  }
  return {};
}

Status WindowFit::visit(Form form, bool mapped, const Stream &x,
                        const std::function<Status(Job &job, const Stream &z)> &at) {
  int64_t length = 0;
  for (const Job &job : jobs) {
    if (job.result->window.form == form && job.attention == mapped) {
      length = std::max(length, job.result->window.length);
    }
  }
  if (length == 0) {
    return {};
  }
  return runner.attend({first, length, form}, mapped ? attentionMaps[size_t(form)] : kNoMaps, x,
                       [&](int64_t reached, const Stream &z) -> Status {
                         for (Job &job : jobs) {
                           if (job.result->window.form == form && job.attention == mapped &&
                               job.result->window.length == reached) {
                             MOERT_TRY(at(job, z));
                           }
                         }
                         return {};
                       });
}

Status WindowFit::visitAll(size_t sequence, const std::function<Status(Job &job, const Stream &z)> &at) {
  calibration.select(sequence);
  for (Form form : kForms) {
    for (bool mapped : {false, true}) {
      MOERT_TRY(visit(form, mapped, calibration.before(sequence, first), at));
    }
  }
  return {};
}

Status WindowFit::fitFFNs() {
  std::vector<Moments> moments(jobs.size());
  for (size_t s = 0; s < calibration.count(); ++s) {
    std::vector<Stream> values(static_cast<size_t>(longest()));
    for (size_t j = 0; j < values.size(); ++j) {
      if (model.has(Branch::FFN, first + int64_t(j))) {
        target(Branch::FFN, s, first + int64_t(j), values[j]);
      }
    }
    MOERT_TRY(visitAll(s, [&](Job &job, const Stream &z) -> Status {
      const Window &window = job.result->window;
      if (window.form == Form::Removed) {
        return {};
      }
      std::vector<const Stream *> targets(size_t(window.length), nullptr);
      int64_t last = 0;
      for (int64_t j = 0; j < window.length; ++j) {
        if (model.has(Branch::FFN, first + j)) {
          targets[size_t(j)] = &values[size_t(j)];
          last = first + j;
        }
      }
      Moments &mine = moments[size_t(&job - jobs.data())];
      if (s == 0) {
        mine = Moments(model.hidden(), targets.size(), options.threads);
      }
      Stream input;
      normalize(z, model.hidden(), runner.ffnEps(window), input);
      runner.hide(runner.sharedScale(window, Branch::FFN, last), input);
      mine.add(input, targets);
      return {};
    }));
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    if (jobs[i].result->window.form != Form::Removed) {
      jobs[i].ffnMaps = moments[i].solve(options.ridge);
    }
  }
  return {};
}

Status WindowFit::fitOutputs() {
  // Where FFN maps do not help by themselves, they may with an output map behind them: both ways are fitted.
  std::vector<Moments> moments(2 * jobs.size());
  for (size_t s = 0; s < calibration.count(); ++s) {
    MOERT_TRY(visitAll(s, [&](Job &job, const Stream &z) -> Status {
      const Window &window = job.result->window;
      const size_t index = size_t(&job - jobs.data());
      Stream sum, wanted = calibration.before(s, first + window.length);
      std::transform(wanted.begin(), wanted.end(), z.begin(), wanted.begin(), [](float a, float b) { return a - b; });
      for (bool mapped : {false, true}) {
        if (!job.takesOutput || (job.ffn && !mapped)) {
          continue;
        }
        Moments &mine = moments[2 * index + mapped];
        if (s == 0) {
          mine = Moments(model.hidden(), 1, options.threads);
        }
        MOERT_TRY(runner.feed(window, ffnMaps(job, mapped), z, sum));
        mine.add(sum, {&wanted});
      }
      return {};
    }));
  }
  for (size_t i = 0; i < jobs.size(); ++i) {
    for (bool mapped : {false, true}) {
      if (jobs[i].takesOutput && (mapped || !jobs[i].ffn)) {
        jobs[i].outputs[mapped] = std::move(moments[2 * i + mapped].solve(options.ridge)[0]);
      }
    }
  }
  return {};
}

//===----------------------------------------------------------------------===//
// Judging, on held-out text
//===----------------------------------------------------------------------===//

Status WindowFit::judgeOne(Trial &trial, size_t sequence, const Prediction &full, const Stream &z) {
  const Window &window = trial.job->result->window;
  Stream sum;
  MOERT_TRY(runner.feed(window, ffnMaps(*trial.job, trial.ffn), z, sum));
  if (trial.output) {
    Stream mapped;
    applyMap(sum, trial.job->outputs[trial.ffn], model.hidden(), options.threads, mapped);
    sum.swap(mapped);
  }
  addTo(sum, z);
  const int64_t next = first + window.length;
  trial.score.wrong += squares(sum, heldOut.before(sequence, next));
  trial.score.added += squares(heldOut.before(sequence, next), heldOut.before(sequence, first));
  std::vector<float> logits;
  MOERT_TRY(runner.finish(next, std::move(sum), logits));
  const Prediction::Effect effect = full.compare(logits);
  trial.score.kl[sequence] = effect.kl;
  trial.score.loss += effect.loss;
  trial.score.sameWinner += effect.sameWinner;
  return {};
}

Status WindowFit::judge(std::vector<Trial> &trials, size_t every, double share) {
  for (Trial &trial : trials) {
    trial.score.kl.assign(heldOut.count(), 0.0);
  }
  for (size_t s = 0; s < heldOut.count() && !trials.empty(); s += every) {
    heldOut.select(s);
    std::vector<float> logits;
    MOERT_TRY(model.head(ends[s], logits));
    const Prediction full(std::move(logits), heldOut.ids(s), vocabulary, options.threads);
    for (Form form : kForms) {
      for (bool mapped : {false, true}) {
        std::vector<Trial *> here;
        int64_t length = 0;
        for (Trial &trial : trials) {
          if (trial.job->result->window.form == form && trial.attention == mapped) {
            here.push_back(&trial);
            length = std::max(length, trial.job->result->window.length);
          }
        }
        if (here.empty()) {
          continue;
        }
        MOERT_TRY(runner.attend({first, length, form}, mapped ? attentionMaps[size_t(form)] : kNoMaps,
                                heldOut.before(s, first), [&](int64_t reached, const Stream &z) -> Status {
                                  for (Trial *trial : here) {
                                    if (trial->job->result->window.length == reached) {
                                      MOERT_TRY(judgeOne(*trial, s, full, z));
                                      advance(share * double(every) / double(trials.size() * heldOut.count()));
                                    }
                                  }
                                  return {};
                                }));
      }
    }
  }
  return {};
}

Status WindowFit::tryStage(std::vector<Trial> &trials) {
  MOERT_TRY(judge(trials, stageEvery(heldOut.count()), kStageShare));
  for (const Trial &trial : trials) {
    trial.job->result->offer((trial.attention ? kAttentionMaps : 0) | (trial.ffn ? kFFNMaps : 0) |
                                 (trial.output ? kOutputMap : 0),
                             trial.score);
  }
  return {};
}

Status WindowFit::fit(std::vector<WindowResult> &windows, const Step &onStep) {
  step = onStep;
  done = 0;
  first = windows.front().window.first;
  jobs.clear();
  for (WindowResult &result : windows) {
    Job &job = jobs.emplace_back();
    job.result = &result;
    MOERT_ASSIGN(takesOutput, runner.takesOutputMap(result.window));
    job.takesOutput = takesOutput;
  }
  MOERT_TRY(fitShared(Branch::Attention, 1, longest(Form::Pair), attentionMaps[size_t(Form::Pair)]));
  MOERT_TRY(fitShared(Branch::FFN, 0, longest(Form::Removed), removedFFNMaps));
  MOERT_TRY(fitDeferred(longest(Form::Deferred)));
  advance(kFitShare);

  std::vector<Trial> trials;
  for (Job &job : jobs) {
    trials.push_back({&job, false, false, false, {}});
  }
  MOERT_TRY(judge(trials, 1, kWholeShare));
  std::vector<int64_t> lengths;
  for (size_t s = 0; s < heldOut.count(); ++s) {
    lengths.push_back(int64_t(heldOut.ids(s).size()));
  }
  for (Trial &trial : trials) {
    trial.job->result->begin(std::move(trial.score), lengths);
  }
  trials.clear();
  for (Job &job : jobs) {
    if (hasMaps(attentionMaps[size_t(job.result->window.form)], job.result->window.length)) {
      trials.push_back({&job, true, false, false, {}});
    }
  }
  MOERT_TRY(tryStage(trials));
  for (Job &job : jobs) {
    job.attention = job.result->stages & kAttentionMaps;
  }
  MOERT_TRY(fitFFNs());
  advance(kFitShare);

  trials.clear();
  for (Job &job : jobs) {
    if (hasMaps(ffnMaps(job, true), job.result->window.length)) {
      trials.push_back({&job, job.attention, true, false, {}});
    }
  }
  MOERT_TRY(tryStage(trials));
  for (Job &job : jobs) {
    job.ffn = job.result->stages & kFFNMaps;
  }
  MOERT_TRY(fitOutputs());
  advance(kFitShare);

  trials.clear();
  for (Job &job : jobs) {
    for (bool mapped : {false, true}) {
      if (!job.outputs[mapped].empty()) {
        trials.push_back({&job, job.attention, mapped, true, {}});
      }
    }
  }
  MOERT_TRY(tryStage(trials));

  // What is left is judged on all held-out text, and has to help there too.
  trials.clear();
  for (Job &job : jobs) {
    const int32_t stages = job.result->stages;
    if (stages) {
      trials.push_back(
          {&job, (stages & kAttentionMaps) != 0, (stages & kFFNMaps) != 0, (stages & kOutputMap) != 0, {}});
    }
  }
  MOERT_TRY(judge(trials, 1, kWholeShare));
  for (Trial &trial : trials) {
    trial.job->result->settle(std::move(trial.score));
  }
  for (Job &job : jobs) {
    WindowResult &result = *job.result;
    const auto length = size_t(result.window.length);
    auto cut = [&](const std::vector<Map> &maps) {
      return std::vector<Map>(maps.begin(), maps.begin() + int64_t(std::min(length, maps.size())));
    };
    if (result.stages & kAttentionMaps) {
      result.maps.attention = cut(attentionMaps[size_t(result.window.form)]);
    }
    if (result.stages & kFFNMaps) {
      result.maps.ffn = cut(ffnMaps(job, true));
    }
    if (result.stages & kOutputMap) {
      result.maps.output = std::move(job.outputs[(result.stages & kFFNMaps) != 0]);
    }
  }
  return {};
}
