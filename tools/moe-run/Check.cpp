//===- Check.cpp - moe-run check ------------------------------------------===//
//
// Everything that would stop a package from running here, without running it:
// checksums and bounds (load), the variant for this CPU, weights that are there
// and are the ones it was compiled for, the tokenizer.
//
//===----------------------------------------------------------------------===//
#include "tools/moe-run/Commands.h"

#include "runtime/readers/File.h"
#include "runtime/readers/GenerationConfig.h"

using namespace moert;
using namespace moerun;

Status moerun::runCheck(const CheckCommand &command) {
  MOERT_ASSIGN(package, Package::load(command.package));
  const ProgramInfo &info = package.info();
  MOERT_ASSIGN(config, readers::readGenerationConfig(command.package));
  std::string tokenizer = "none";
  if (readers::exists(readers::joinPath(command.package, "tokenizer.json"))) {
    MOERT_ASSIGN(opened, openTokenizer(command.package));
    tokenizer = concat(opened.size(), " tokens");
  }
  MOERT_ASSIGN(session, openSession(package, command, 1, 1, command.verifyWeights));
  MOERT_ASSIGN(report, parseReport(*session));
  Json model = Json::parse(info.modelJson, nullptr, false);
  if (command.json) {
    Json json = {{"package", command.package},     {"ok", true},
                 {"compiler", info.compiler},      {"model", model},
                 {"vocabulary", info.vocabulary},  {"max_tokens", info.maxTokens},
                 {"max_context", info.maxContext}, {"eos", config.eos},
                 {"tokenizer", tokenizer},         {"weights_hashed", command.verifyWeights}};
    json["session"] = report;
    return outputStatus(printJson(json));
  }
  std::string text = concat(command.package, ": ok\n");
  text += concat("  compiled by  ", info.compiler, "\n");
  text += concat("  model        ", model.is_discarded() ? info.modelJson : model.dump(), "\n");
  text +=
      concat("  sizes        vocabulary ", info.vocabulary, ", at most ", info.maxTokens, " tokens in a step, context ",
             info.maxContext == 0 ? std::string("unlimited") : std::to_string(info.maxContext), "\n");
  text += concat("  tokenizer    ", tokenizer, "\n");
  text += concat("  weights      ", report.value("weights", std::string()), ", ",
                 bytesText(report.value("weight_bytes", 0.0)), " used, ",
                 command.verifyWeights ? "every byte hashed"
                                       : "sizes, times and headers match (--weights hashes every byte)",
                 "\n");
  for (const Json &digest : report.value("weight_sha256", Json::array())) {
    text += concat("  sha256       ", digest.get<std::string>(), "\n");
  }
  for (const Json &variant : report.value("variants", Json::array())) {
    text += concat("  variant      ", variant.value("target", std::string()), ": ",
                   variant.value("chosen", false) ? "runs here, chosen" : variant.value("reason", std::string()), "\n");
  }
  for (const Json &note : report.value("notes", Json::array())) {
    text += concat("  note         ", note.get<std::string>(), "\n");
  }
  return outputStatus(printOut(text));
}
