import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.AuthorizationException;
import org.apache.kafka.common.errors.OutOfOrderSequenceException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.utils.AppInfoParser;

/** Kafka's own Java clients as a program of test/clients: see package oracle for what it is told and what it tells. One source for all releases. */
public final class Client {
  static final Map<String, String> args = new HashMap<>();
  static volatile boolean stopping;
  static volatile Runnable onStop = () -> {};
  private static final PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);

  /** Writes an event: its kind, then names and values of its fields. */
  static void say(String event, Object... fields) {
    StringBuilder b = new StringBuilder("{\"event\":\"").append(event).append('"');
    for (int i = 0; i < fields.length; i += 2) {
      b.append(",\"").append(fields[i]).append("\":");
      if (fields[i + 1] instanceof String) {
        quote(b, (String) fields[i + 1]);
      } else {
        b.append(fields[i + 1]);
      }
    }
    synchronized (out) {
      out.println(b.append('}'));
      out.flush();
    }
  }

  private static void quote(StringBuilder b, String s) {
    b.append('"');
    for (char c : s.toCharArray()) {
      if (c == '"' || c == '\\') {
        b.append('\\').append(c);
      } else if (c < ' ') {
        b.append(String.format("\\u%04x", (int) c));
      } else {
        b.append(c);
      }
    }
    b.append('"');
  }

  /** What a person would see of an exception. */
  static String text(Throwable e) {
    if (e instanceof ExecutionException && e.getCause() != null) {
      e = e.getCause();
    }
    String s = e.toString();
    return e.getCause() == null ? s : s + ": " + e.getCause();
  }

  static long number(String key) {
    return Long.parseLong(args.getOrDefault(key, "0"));
  }

  static Properties properties() {
    Properties p = new Properties();
    p.put("bootstrap.servers", args.get("bootstrap"));
    p.put("client.id", "java");
    for (String side : List.of("key", "value")) {
      p.put(side + ".serializer", "org.apache.kafka.common.serialization.StringSerializer");
      p.put(side + ".deserializer", "org.apache.kafka.common.serialization.StringDeserializer");
    }
    return p;
  }

  public static void main(String[] argv) throws Exception {
    for (String arg : argv) {
      int i = arg.indexOf('=');
      args.put(arg.substring(0, i), arg.substring(i + 1));
    }
    Thread watch = new Thread(() -> {
      try {
        while (System.in.read() >= 0) {}
      } catch (java.io.IOException e) {
        // It ended, which is what is waited for.
      }
      stopping = true;
      onStop.run();
    });
    watch.setDaemon(true);
    watch.start();
    try {
      say("ready", "version", AppInfoParser.getVersion());
      switch (args.get("role")) {
        case "produce": produce(); break;
        case "consume": consume(); break;
        case "admin": AdminSteps.run(); break;
        case "streams": StreamsCount.run(); break;
        default: throw new IllegalArgumentException("no role " + args.get("role"));
      }
      say("done");
    } catch (Throwable e) {
      say("error", "text", text(e), "fatal", true);
      System.exit(1);
    }
    System.exit(0);
  }

  private static void produce() {
    Properties p = properties();
    p.put("linger.ms", "5");
    String kind = args.get("kind");
    if (kind.equals("acks1") || kind.equals("acks0")) {
      p.put("acks", kind.substring(4));
      p.put("enable.idempotence", "false");
    } else {
      p.put("acks", "all");
      p.put("enable.idempotence", "true");
    }
    long first = number("from"), n = number("records"), batch = number("batch");
    say("sending", "id", first, "to", first + n - 1);
    if (kind.equals("transactional")) {
      p.put("transactional.id", args.get("txid"));
    }
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(p)) {
      if (!kind.equals("transactional")) {
        send(producer, first, n, 0);
        return;
      }
      producer.initTransactions();
      for (long tx = 1; (tx - 1) * batch < n && !stopping; tx++) {
        long begin = first + (tx - 1) * batch;
        try {
          producer.beginTransaction();
          send(producer, begin, Math.min(batch, first + n - begin), tx);
          producer.flush();
          if (tx % 3 == 0) {
            producer.abortTransaction();
          } else {
            producer.commitTransaction();
          }
          say(tx % 3 == 0 ? "abort" : "commit", "tx", tx);
        } catch (ProducerFencedException | OutOfOrderSequenceException | AuthorizationException e) {
          throw e;
        } catch (KafkaException e) {
          say("error", "text", "transaction: " + text(e));
          producer.abortTransaction();
          say("abort", "tx", tx);
        }
      }
    }
  }

  private static void send(KafkaProducer<String, String> producer, long first, long n, long tx) {
    long begun = System.nanoTime(), rate = number("rate");
    for (long id = first; id < first + n && !stopping; id++) {
      long at = id;
      String text = Long.toString(id);
      producer.send(new ProducerRecord<>(args.get("topic"), (int) (id % number("partitions")), text, text), (m, e) -> {
        if (e != null) {
          say("failed", "id", at, "text", text(e));
        } else {
          say("acked", "id", at, "partition", m.partition(), "offset", m.hasOffset() ? m.offset() : -1, "tx", tx);
        }
      });
      if (rate > 0) {
        long left = begun + (id - first + 1) * 1_000_000_000L / rate - System.nanoTime();
        if (left > 0) {
          java.util.concurrent.locks.LockSupport.parkNanos(left);
        }
      }
    }
  }

  /** Tells of partitions that come and go. */
  private static final class Moves implements ConsumerRebalanceListener {
    private void told(String event, Collection<TopicPartition> partitions) {
      List<Integer> numbers = new ArrayList<>();
      partitions.forEach(p -> numbers.add(p.partition()));
      if (!numbers.isEmpty()) {
        say(event, "partitions", numbers);
      }
    }

    @Override public void onPartitionsAssigned(Collection<TopicPartition> p) { told("assigned", p); }
    @Override public void onPartitionsRevoked(Collection<TopicPartition> p) { told("revoked", p); }
    @Override public void onPartitionsLost(Collection<TopicPartition> p) { told("lost", p); }
  }

  private static void consume() {
    Properties p = properties();
    p.put("auto.offset.reset", "earliest");
    p.put("enable.auto.commit", "false");
    p.put("isolation.level", "read_committed");
    String mode = args.get("mode");
    if (!mode.equals("assign")) {
      p.put("group.id", args.get("group"));
    }
    if (mode.equals("kip848")) {
      p.put("group.protocol", "consumer");
    } else {
      p.put("session.timeout.ms", "10000");
      p.put("heartbeat.interval.ms", "500");
      p.put("partition.assignment.strategy",
          "org.apache.kafka.clients.consumer." + (mode.equals("cooperative") ? "CooperativeStickyAssignor" : "RangeAssignor"));
    }
    if (mode.equals("static")) {
      p.put("group.instance.id", args.get("instance"));
    }
    try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(p)) {
      onStop = consumer::wakeup;
      if (mode.equals("assign")) {
        List<TopicPartition> all = new ArrayList<>();
        for (int i = 0; i < number("partitions"); i++) {
          all.add(new TopicPartition(args.get("topic"), i));
        }
        consumer.assign(all);
        for (TopicPartition tp : all) {
          consumer.seek(tp, number("seek"));
          say("started", "partition", tp.partition(), "offset", number("seek"));
        }
      } else {
        consumer.subscribe(List.of(args.get("topic")), new Moves());
      }
      while (!stopping) {
        poll(consumer, !mode.equals("assign"));
      }
    }
  }

  private static void poll(KafkaConsumer<String, String> consumer, boolean commit) {
    ConsumerRecords<String, String> got;
    try {
      got = consumer.poll(Duration.ofMillis(500));
    } catch (WakeupException e) {
      return;
    }
    Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
    for (ConsumerRecord<String, String> r : got) {
      say("read", "partition", r.partition(), "offset", r.offset(), "id", Long.parseLong(r.value()));
      next.put(new TopicPartition(r.topic(), r.partition()), new OffsetAndMetadata(r.offset() + 1));
    }
    if (!commit || next.isEmpty()) {
      return;
    }
    while (true) {
      try {
        consumer.commitSync(next);
        break;
      } catch (WakeupException e) {
        // What was read is committed before the end.
      } catch (RuntimeException e) {
        say("error", "text", "commit: " + text(e));
        return;
      }
    }
    new TreeMap<>(byPartition(next)).forEach((part, offset) -> say("committed", "partition", part, "offset", offset));
  }

  private static Map<Integer, Long> byPartition(Map<TopicPartition, OffsetAndMetadata> offsets) {
    Map<Integer, Long> out = new HashMap<>();
    offsets.forEach((tp, o) -> out.put(tp.partition(), o.offset()));
    return out;
  }
}
