//===- WindowBench.cpp - Windows fitted one layer after the other ---------===//
#include "tools/moe-run/calibrate/WindowBench.h"

#include <algorithm>

using namespace moert;
using namespace moerun;

namespace {

std::vector<std::vector<int32_t>> idsOf(const std::vector<const CalibrationText::Sequence *> &sequences) {
  std::vector<std::vector<int32_t>> ids;
  for (const CalibrationText::Sequence *sequence : sequences) {
    ids.push_back(sequence->ids);
  }
  return ids;
}

} // namespace

WindowBench::WindowBench(Sublayers &model, const CalibrationText &text, int64_t vocabulary, const Options &options)
    : model(model), runner(model, options.removed, options.fit.threads), calibration(model, idsOf(text.pick(false))),
      heldOut(model, idsOf(text.pick(true, options.judgeTokens))), vocabulary(vocabulary), options(options.fit) {
  for (const CalibrationText::Sequence *sequence : text.pick(true, options.judgeTokens)) {
    judged.tokens.push_back(int64_t(sequence->ids.size()));
    judged.domains.push_back(sequence->domain);
  }
  judged.domainCount = int64_t(text.domains.size());
}

Status WindowBench::open() {
  if (calibration.count() == 0 || heldOut.count() == 0) {
    return error(Code::InvalidArgument, "windows are fitted on one half of the text and judged on the other, but ",
                 calibration.count(), " sequences are for fitting and ", heldOut.count(),
                 " are held out; give more text, shorter sequences, another --held-out, or --windows 0");
  }
  MOERT_TRY(model.findNorms(calibration.ids(0)));
  ends.resize(heldOut.count());
  Stream y;
  for (size_t s = 0; s < ends.size(); ++s) {
    heldOut.select(s);
    MOERT_TRY(model.embed(ends[s]));
    for (int64_t l = 0; l < model.layers(); ++l) {
      for (Branch branch : {Branch::Attention, Branch::FFN}) {
        MOERT_TRY(model.run(branch, l, ends[s], y));
        addTo(ends[s], y);
      }
    }
  }
  return {};
}

Status WindowBench::fit(std::vector<WindowResult> &windows, const WindowFit::Step &step) {
  int64_t length = 0;
  for (const WindowResult &result : windows) {
    length = std::max(length, result.window.length);
  }
  const int64_t first = windows.front().window.first;
  MOERT_TRY(calibration.moveTo(first, first + length - 1));
  MOERT_TRY(heldOut.moveTo(first, first + length - 1));
  return WindowFit(model, runner, calibration, heldOut, ends, vocabulary, options).fit(windows, step);
}

Result<std::vector<Form>> moerun::parseForms(const std::string &list) {
  std::vector<Form> forms;
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    MOERT_ASSIGN(form, parseForm(list.substr(begin, end - begin)));
    forms.push_back(form);
    begin = end + 1;
  }
  std::sort(forms.begin(), forms.end());
  forms.erase(std::unique(forms.begin(), forms.end()), forms.end());
  return forms;
}
