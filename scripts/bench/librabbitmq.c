/* Publishes persistent messages with confirms, so many under way, and prints the seconds it took: what C can do. */
#include <amqp.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void need(int ok, const char *what) {
  if (ok) return;
  fprintf(stderr, "librabbitmq: %s\n", what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

/* Marks what an acknowledgement confirms, by delivery tag from 1; gives how many are new. */
static long confirm(char *confirmed, long *low, const amqp_basic_ack_t *ack) {
  long tag = (long)ack->delivery_tag, found = 0;
  for (long at = ack->multiple ? *low : tag; at <= tag; at++) {
    found += !confirmed[at];
    confirmed[at] = 1;
  }
  while (confirmed[*low]) ++*low;
  return found;
}

int main(int argc, char **argv) {
  need(argc == 11, "host port vhost user password exchange key bytes count window");
  long bytes = atol(argv[8]), count = atol(argv[9]), window = atol(argv[10]);
  amqp_connection_state_t connection = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(connection);
  need(amqp_socket_open(socket, argv[1], atoi(argv[2])) == AMQP_STATUS_OK, "no connection");
  amqp_rpc_reply_t reply = amqp_login(connection, argv[3], 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, argv[4], argv[5]);
  need(reply.reply_type == AMQP_RESPONSE_NORMAL, "no login");
  need(amqp_channel_open(connection, 1) != NULL, "no channel");
  need(amqp_confirm_select(connection, 1) != NULL, "no confirms");

  /* What our messages have, too: an id, an event, a time, and the node they come from. */
  amqp_table_entry_t node = {amqp_cstring_bytes("node"), {.kind = AMQP_FIELD_KIND_UTF8, .value.bytes = amqp_cstring_bytes("bench")}};
  amqp_basic_properties_t properties = {0};
  properties._flags = AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG |
    AMQP_BASIC_MESSAGE_ID_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_HEADERS_FLAG;
  properties.delivery_mode = 2;
  properties.content_type = amqp_cstring_bytes("application/json");
  properties.content_encoding = amqp_cstring_bytes("utf-8");
  properties.message_id = amqp_cstring_bytes("8d3e0a51-6f0e-4a52-9f6e-2f3b1c5d7e90");
  properties.type = amqp_cstring_bytes("bench.noop");
  properties.timestamp = (uint64_t)time(NULL);
  properties.headers.num_entries = 1;
  properties.headers.entries = &node;
  amqp_bytes_t body = {(size_t)bytes, calloc(1, (size_t)bytes)};
  char *confirmed = calloc(1, (size_t)count + 2);
  need(body.bytes != NULL && confirmed != NULL, "no memory");

  double start = now();
  for (long sent = 0, low = 1, done = 0; done < count;) {
    while (sent < count && sent - done < window) {
      need(amqp_basic_publish(connection, 1, amqp_cstring_bytes(argv[6]), amqp_cstring_bytes(argv[7]), 1, 0, &properties, body) == AMQP_STATUS_OK, "not sent");
      sent++;
    }
    do {
      amqp_frame_t frame;
      need(amqp_simple_wait_frame(connection, &frame) == AMQP_STATUS_OK, "no answer");
      need(frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == AMQP_BASIC_ACK_METHOD, "not confirmed");
      done += confirm(confirmed, &low, frame.payload.method.decoded);
    } while (amqp_frames_enqueued(connection) || amqp_data_in_buffer(connection));
    amqp_maybe_release_buffers(connection);
  }
  printf("%f\n", now() - start);
  return 0;
}
