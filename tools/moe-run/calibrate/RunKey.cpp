//===- RunKey.cpp - Which run an unfinished calibration is of -------------===//
#include "tools/moe-run/calibrate/RunKey.h"

using namespace moerun;

std::string moerun::runKey(const CalibrateCommand &command, const RunFacts &facts) {
  // As JSON, a number is written with all the digits that tell it from others.
  return Json{facts.fingerprint, facts.text,    facts.variant, facts.length,       command.measureTokens,
              command.windows,   command.forms, command.ridge, command.judgeTokens}
      .dump();
}
