//===- Json.cpp - Checked access to small JSON files ----------------------===//
//
// The parser's callback sees every key before its value: it keeps one set of
// keys per open object, which is where duplicates and depth show.
//
//===----------------------------------------------------------------------===//
#include "runtime/readers/Json.h"

#include <unordered_set>

using namespace moert;
using namespace moert::readers;
using nlohmann::json;

namespace {
constexpr size_t maxDepth = 64;
}

Result<json> moert::readers::parseJson(const std::string &file, std::string_view text) {
  return guarded(file, [&]() -> Result<json> {
    std::vector<std::unordered_set<std::string>> keys;
    auto check = [&](int depth, json::parse_event_t event, json &parsed) {
      if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
        if (static_cast<size_t>(depth) >= maxDepth) {
          throw JsonFailure(error(Code::Corrupt, file, ": JSON nested deeper than ", maxDepth, " levels"));
        }
        keys.emplace_back();
      } else if (event == json::parse_event_t::object_end || event == json::parse_event_t::array_end) {
        keys.pop_back();
      } else if (event == json::parse_event_t::key &&
                 !keys.back().insert(parsed.get_ref<const std::string &>()).second) {
        throw JsonFailure(error(Code::Corrupt, file, ": key \"", parsed.get_ref<const std::string &>(),
                                "\" appears twice in an object"));
      }
      return true;
    };
    try {
      return json::parse(text.begin(), text.end(), check);
    } catch (const json::parse_error &problem) {
      std::string_view what = problem.what();
      size_t start = what.find("syntax error");
      return error(Code::Corrupt, file, ": not valid JSON at byte ", problem.byte, start == what.npos ? "" : ": ",
                   start == what.npos ? std::string_view() : what.substr(start));
    } catch (const json::out_of_range &) {
      return error(Code::Corrupt, file, ": not valid JSON: a number beyond what 64 bits hold");
    }
  });
}

void JsonView::wrongType(const char *wanted) const {
  fail(Code::Corrupt, "must be ", wanted, ", not ", value->type_name());
}

JsonView JsonView::at(const std::string &key) const {
  if (!value->is_object()) {
    wrongType("an object");
  }
  auto found = value->find(key);
  if (found == value->end()) {
    fail(Code::Corrupt, "has no \"", key, "\"");
  }
  return JsonView(*this, key, *found);
}

bool JsonView::has(const std::string &key) const {
  if (!value->is_object()) {
    return false;
  }
  auto found = value->find(key);
  return found != value->end() && !found->is_null();
}

std::vector<JsonView> JsonView::elements() const {
  if (!value->is_array()) {
    wrongType("a list");
  }
  std::vector<JsonView> result;
  result.reserve(value->size());
  for (size_t i = 0; i < value->size(); ++i) {
    result.push_back(JsonView(*this, std::to_string(i), (*value)[i]));
  }
  return result;
}

std::vector<std::pair<std::string, JsonView>> JsonView::members() const {
  if (!value->is_object()) {
    wrongType("an object");
  }
  std::vector<std::pair<std::string, JsonView>> result;
  for (auto member = value->begin(); member != value->end(); ++member) {
    result.emplace_back(member.key(), JsonView(*this, member.key(), member.value()));
  }
  return result;
}

const std::string &JsonView::text() const {
  if (!value->is_string()) {
    wrongType("a string");
  }
  return value->get_ref<const std::string &>();
}

int64_t JsonView::integer(int64_t least, int64_t most) const {
  if (!value->is_number_integer()) {
    wrongType("an integer");
  }
  bool fits = !value->is_number_unsigned() || value->get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX);
  if (!fits || value->get<int64_t>() < least || value->get<int64_t>() > most) {
    fail(Code::Corrupt, value->dump(), " is not between ", least, " and ", most);
  }
  return value->get<int64_t>();
}

double JsonView::number() const {
  if (!value->is_number()) {
    wrongType("a number");
  }
  return value->get<double>();
}

bool JsonView::boolean() const {
  if (!value->is_boolean()) {
    wrongType("true or false");
  }
  return value->get<bool>();
}
