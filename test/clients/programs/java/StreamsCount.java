import java.nio.file.Files;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.Stores;

/** Counts each key of a topic into another, exactly once: with a repartition topic and a changelog, as applications have. */
final class StreamsCount {
  static void run() throws Exception {
    Properties p = new Properties();
    p.put("bootstrap.servers", Client.args.get("bootstrap"));
    p.put("application.id", Client.args.get("group"));
    p.put("state.dir", Files.createTempDirectory("streams").toString());
    p.put("replication.factor", "3");
    p.put("commit.interval.ms", "100");
    p.put("consumer.auto.offset.reset", "earliest");
    // The same thing had another name before 3.0.
    p.put("processing.guarantee", org.apache.kafka.common.utils.AppInfoParser.getVersion().startsWith("2.") ? "exactly_once_beta" : "exactly_once_v2");
    StreamsBuilder b = new StreamsBuilder();
    b.stream(Client.args.get("topic"), Consumed.with(Serdes.String(), Serdes.String()))
        .groupBy((key, value) -> value, Grouped.with("by-value", Serdes.String(), Serdes.String()))
        .count(Materialized.<String, Long>as(Stores.inMemoryKeyValueStore("counts")).withKeySerde(Serdes.String()).withValueSerde(Serdes.Long())
            .withCachingDisabled())
        .toStream().mapValues(String::valueOf)
        .to(Client.args.get("output"), Produced.with(Serdes.String(), Serdes.String()));
    KafkaStreams streams = new KafkaStreams(b.build(), p);
    CountDownLatch end = new CountDownLatch(1);
    streams.setUncaughtExceptionHandler((Throwable e) -> {
      Client.say("error", "text", Client.text(e), "fatal", true);
      end.countDown();
      return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
    });
    Client.onStop = end::countDown;
    streams.start();
    end.await();
    streams.close(java.time.Duration.ofSeconds(20));
  }
}
