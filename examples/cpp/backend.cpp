// A back end in C++17 over msgpack: sends each snapshot of standard input to POST /locate, prints where the user is.
//
//     c++ -std=c++17 -O2 -o backend backend.cpp
//     ./backend 127.0.0.1 8080 CELL ANTENNAS SUBCARRIERS < snapshots
//
// A snapshot is ANTENNAS x SUBCARRIERS complex numbers, as pairs of little-endian float32: antennas row by row,
// subcarriers by ascending frequency. FINGERPOST_KEY holds the API key, if the service needs one. POSIX sockets and
// the standard library only; for TLS put the same bytes through the library of your choice.
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>

#include "msgpack.hpp"

using std::string;

struct Response {
    int status = 0;
    int retry_after_s = 1;
    string body;
};

// HTTP/1.1 over one connection that stays open.
class Service {
  public:
    Service(const string& host, const string& port) : host_(host), port_(port) {}
    ~Service() { disconnect(); }

    // Sends the request again, four times in all, if the service is busy or has closed the connection meanwhile.
    Response post(const string& path, const string& headers, const string& body) {
        const string request = "POST " + path + " HTTP/1.1\r\nHost: " + host_ + ":" + port_ + "\r\n" + headers +
                               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
        for (int left = 3;; --left) {
            Response response;
            try {
                connect();
                send_all(request);
                response = receive();
            } catch (const std::runtime_error&) {
                disconnect();
                if (left == 0) throw;
                response.retry_after_s = 3 - left;
            }
            const bool again = response.status == 0 || response.status == 429 || response.status == 503;
            if (!again || left == 0) return response;
            std::this_thread::sleep_for(std::chrono::seconds(response.retry_after_s));
        }
    }

  private:
    void connect() {
        if (socket_ >= 0) return;
        addrinfo wanted{}, *found = nullptr;
        wanted.ai_socktype = SOCK_STREAM;
        if (getaddrinfo(host_.c_str(), port_.c_str(), &wanted, &found) != 0) throw std::runtime_error("unknown host");
        for (addrinfo* one = found; one != nullptr && socket_ < 0; one = one->ai_next) {
            socket_ = ::socket(one->ai_family, one->ai_socktype, one->ai_protocol);
            if (socket_ >= 0 && ::connect(socket_, one->ai_addr, one->ai_addrlen) != 0) disconnect();
        }
        freeaddrinfo(found);
        if (socket_ < 0) throw std::runtime_error("cannot connect to " + host_ + ":" + port_);
        const timeval patience{10, 0};
        setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    void disconnect() {
        if (socket_ >= 0) ::close(socket_);
        socket_ = -1;
        received_.clear();
    }
    void send_all(const string& bytes) {
        for (size_t sent = 0; sent < bytes.size();) {
            const ssize_t more = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
            if (more <= 0) throw std::runtime_error("the connection broke while sending");
            sent += size_t(more);
        }
    }
    void receive_more() {
        char bytes[16384];
        const ssize_t more = ::recv(socket_, bytes, sizeof bytes, 0);
        if (more <= 0) throw std::runtime_error("no answer");
        received_.append(bytes, size_t(more));
    }
    Response receive() {
        size_t end;
        while ((end = received_.find("\r\n\r\n")) == string::npos) receive_more();
        string head = received_.substr(0, end + 2);
        received_.erase(0, end + 4);
        for (char& letter : head) letter = char(std::tolower(static_cast<unsigned char>(letter)));
        Response response;
        response.status = std::stoi(head.substr(head.find(' ')));
        if (const string wait = header(head, "retry-after"); !wait.empty()) response.retry_after_s = std::stoi(wait);
        const size_t length = std::stoul(header(head, "content-length"));  // which every answer of the service has
        while (received_.size() < length) receive_more();
        response.body = received_.substr(0, length);
        received_.erase(0, length);
        if (header(head, "connection") == "close") disconnect();
        return response;
    }
    static string header(const string& head, const string& name) {
        const size_t at = head.find("\r\n" + name + ":");
        if (at == string::npos) return "";
        const size_t first = head.find_first_not_of(' ', at + name.size() + 3);
        return head.substr(first, head.find("\r\n", first) - first);
    }

    const string host_, port_;
    int socket_ = -1;
    string received_;
};

int main(int count, char** words) {
    if (count != 6) {
        std::cerr << "usage: " << words[0] << " HOST PORT CELL ANTENNAS SUBCARRIERS < snapshots\n";
        return 2;
    }
    const string cell = words[3];
    const auto antennas = uint32_t(std::stoul(words[4])), subcarriers = uint32_t(std::stoul(words[5]));
    const char* key = std::getenv("FINGERPOST_KEY");
    const string headers = "Content-Type: application/msgpack\r\nAccept: application/msgpack\r\n"
                           "Fingerpost-Cell: " + cell + "\r\n" +
                           (key == nullptr ? "" : "Authorization: Bearer " + string(key) + "\r\n");
    Service service(words[1], words[2]);
    string csi(8 * size_t(antennas) * subcarriers, '\0');
    bool good = true;
    try {
        while (std::cin.read(&csi[0], std::streamsize(csi.size()))) {
            const string request =
                pack_map(3) + pack("cellId") + pack(cell) + pack("maxRespTime") + pack(5.0) + pack("csi") +
                pack_map(3) + pack("encoding") + pack("complex64") +
                pack("shape") + pack_array(2) + pack(antennas) + pack(subcarriers) + pack("data") + pack_bytes(csi);
            const Response response = service.post("/locate", headers, request);
            if (response.status == 200) {
                const Answer answer(response.body);
                std::cout << answer["locationEstimate.point.lat"] << ' ' << answer["locationEstimate.point.lon"] << ' '
                          << answer["hAccuracy"] << " m " << answer["provenance.source"] << std::endl;
            } else {
                good = false;
                std::cerr << response.status << ' ' << response.body << std::endl;  // problems are JSON
            }
        }
    } catch (const std::exception& error) {
        std::cerr << error.what() << std::endl;
        return 1;
    }
    return good ? 0 : 1;
}
