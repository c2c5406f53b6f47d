// msgpack, as much of it as a back end needs: https://github.com/msgpack/msgpack/blob/master/spec.md
#pragma once

#include <cstdint>
#include <cstring>
#include <iomanip>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>

template <typename Number>
inline std::string big_endian(Number number) {
    std::string bytes(sizeof number, '\0');
    std::memcpy(&bytes[0], &number, sizeof number);
    const uint16_t one = 1;
    if (*reinterpret_cast<const uint8_t*>(&one) == 1) bytes.assign(bytes.rbegin(), bytes.rend());
    return bytes;
}
// At most 15 fields, or items.
inline std::string pack_map(unsigned fields) { return std::string(1, char(0x80 | fields)); }
inline std::string pack_array(unsigned items) { return std::string(1, char(0x90 | items)); }
// At most 255 bytes.
inline std::string pack(const std::string& text) { return '\xd9' + big_endian(uint8_t(text.size())) + text; }
inline std::string pack(uint32_t number) { return '\xce' + big_endian(number); }
inline std::string pack(double number) { return '\xcb' + big_endian(number); }
inline std::string pack_bytes(const std::string& bytes) { return '\xc6' + big_endian(uint32_t(bytes.size())) + bytes; }

// The values of an answer as text, by the names that lead to them: "provenance.source", "fallbacks.0.cause".
class Answer {
  public:
    explicit Answer(const std::string& bytes) : bytes_(bytes) { read(""); }
    const std::string& operator[](const std::string& name) const { return values_.at(name); }

  private:
    uint64_t number(size_t size) {
        uint64_t value = 0;
        for (unsigned char byte : take(size)) value = value << 8 | byte;
        return value;
    }
    std::string take(size_t size) {
        if (size > bytes_.size() - at_) throw std::runtime_error("the answer ends too early");
        at_ += size;
        return bytes_.substr(at_ - size, size);
    }
    void read_map(size_t fields, const std::string& prefix) {
        for (; fields > 0; --fields) {
            read("?");
            read(prefix + (prefix.empty() ? "" : ".") + values_["?"]);
        }
    }
    void read_array(size_t items, const std::string& prefix) {
        for (size_t item = 0; item < items; ++item) read(prefix + "." + std::to_string(item));
    }
    void read(const std::string& name) {
        const auto type = unsigned(number(1));
        std::string& value = values_[name];
        if (type < 0x80) value = std::to_string(type);
        else if (type < 0x90) read_map(type & 15, name);
        else if (type < 0xa0) read_array(type & 15, name);
        else if (type < 0xc0) value = take(type & 31);
        else if (type >= 0xe0) value = std::to_string(int(type) - 256);
        else switch (type) {
            case 0xc0: break;
            case 0xc2: case 0xc3: value = type == 0xc3 ? "true" : "false"; break;
            case 0xc4: case 0xc5: case 0xc6: value = take(number(1 << (type - 0xc4))); break;
            case 0xca: case 0xcb: value = read_float(type == 0xca ? 4 : 8); break;
            case 0xcc: case 0xcd: case 0xce: case 0xcf: value = std::to_string(number(1 << (type - 0xcc))); break;
            case 0xd0: value = std::to_string(int8_t(number(1))); break;
            case 0xd1: value = std::to_string(int16_t(number(2))); break;
            case 0xd2: value = std::to_string(int32_t(number(4))); break;
            case 0xd3: value = std::to_string(int64_t(number(8))); break;
            case 0xd9: case 0xda: case 0xdb: value = take(number(1 << (type - 0xd9))); break;
            case 0xc7: take(number(1) + 1); break;  // a time, which this program does not read
            case 0xd6: case 0xd7: take(type == 0xd6 ? 5 : 9); break;
            case 0xdc: case 0xdd: read_array(number(type == 0xdc ? 2 : 4), name); break;
            case 0xde: case 0xdf: read_map(number(type == 0xde ? 2 : 4), name); break;
            default: throw std::runtime_error("the answer is not msgpack of this service");
        }
    }
    std::string read_float(size_t size) {
        const uint64_t bits = number(size);
        const uint32_t low = uint32_t(bits);
        double value;
        float single;
        std::memcpy(&value, &bits, 8);
        std::memcpy(&single, &low, 4);
        std::ostringstream text;
        text << std::setprecision(10) << (size == 4 ? single : value);
        return text.str();
    }

    const std::string bytes_;
    size_t at_ = 0;
    std::map<std::string, std::string> values_;
};
