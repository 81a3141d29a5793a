import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.concurrent.Callable;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourceType;

/** What people do to a cluster; no answer has an address or the topic's name in it. */
final class AdminSteps {
  private static final String topic = Client.args.get("topic"), group = Client.args.get("group");

  private static void step(String name, Callable<Object> attempt) {
    settled(name, "", attempt);
  }

  /** A step about what brokers learn one after the other: it is tried until it is as wanted, for a while. */
  private static void settled(String name, String want, Callable<Object> attempt) {
    String result;
    for (long end = System.nanoTime() + 10_000_000_000L;; java.util.concurrent.locks.LockSupport.parkNanos(100_000_000)) {
      try {
        result = String.valueOf(attempt.call());
      } catch (Throwable e) {
        result = "error: " + Client.text(e);
      }
      if (want.isEmpty() || result.equals(want) || System.nanoTime() > end) {
        break;
      }
    }
    Client.say("step", "name", name, "result", result.replace(topic, "TOPIC"));
  }

  private static Object done(KafkaFuture<?> f) throws Exception {
    f.get();
    return "done";
  }

  private static Collection<Integer> ids(Collection<Node> nodes) {
    Collection<Integer> out = new TreeSet<>();
    nodes.forEach(n -> out.add(n.id()));
    return out;
  }

  /** The description of the topic; the method has another name before 3.1. */
  @SuppressWarnings("unchecked")
  private static TopicDescription describe(Admin a) throws Exception {
    Object r = a.describeTopics(List.of(topic));
    java.lang.reflect.Method m;
    try {
      m = r.getClass().getMethod("topicNameValues");
    } catch (NoSuchMethodException e) {
      m = r.getClass().getMethod("values");
    }
    return ((Map<String, KafkaFuture<TopicDescription>>) m.invoke(r)).get(topic).get();
  }

  private static Object retention(Admin a, ConfigResource r) throws Exception {
    ConfigEntry e = a.describeConfigs(List.of(r)).all().get().get(r).get("retention.ms");
    return e.value() + " " + e.source();
  }

  static void run() {
    try (Admin a = Admin.create(Client.properties())) {
      topics(a);
      configs(a);
      records(a);
      groups(a);
      rights(a);
      step("delete topic", () -> done(a.deleteTopics(List.of(topic)).all()));
    }
  }

  private static void topics(Admin a) {
    step("create topic", () -> done(a.createTopics(List.of(new NewTopic(topic, 3, (short) 3).configs(Map.of("retention.ms", "3600000")))).all()));
    step("create it again", () -> done(a.createTopics(List.of(new NewTopic(topic, 3, (short) 3))).all()));
    step("create with an assignment", () -> done(a.createTopics(List.of(new NewTopic(topic + "-2", Map.of(0, List.of(3, 1))))).all()));
    settled("create partitions", "done", () -> done(a.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all()));
    settled("list topics", "true", () -> a.listTopics().names().get().contains(topic));
    step("describe cluster", () -> a.describeCluster().clusterId().get() + " " + ids(a.describeCluster().nodes().get()));
    settled("describe topic", "5 partitions on [[1, 2, 3]] in step [[1, 2, 3]], 5 led by one", () -> {
      Collection<String> on = new TreeSet<>(), inStep = new TreeSet<>();
      describe(a).partitions().forEach(p -> { on.add(ids(p.replicas()).toString()); inStep.add(ids(p.isr()).toString()); });
      long led = describe(a).partitions().stream().filter(p -> p.replicas().contains(p.leader())).count();
      return describe(a).partitions().size() + " partitions on " + on + " in step " + inStep + ", " + led + " led by one";
    });
    step("elect leaders", () -> done(a.electLeaders(ElectionType.PREFERRED, Set.of(new TopicPartition(topic, 0))).all()));
    settled("list reassignments", "0", () -> a.listPartitionReassignments(Set.of(new TopicPartition(topic, 0))).reassignments().get().size());
    settled("move a partition", "done", () -> done(a.alterPartitionReassignments(Map.of(new TopicPartition(topic + "-2", 0),
        java.util.Optional.of(new org.apache.kafka.clients.admin.NewPartitionReassignment(List.of(1, 2))))).all()));
    settled("delete the other topic", "done", () -> done(a.deleteTopics(List.of(topic + "-2")).all()));
  }

  private static void configs(Admin a) {
    ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, topic), b = new ConfigResource(ConfigResource.Type.BROKER, "2");
    settled("describe config", "3600000 DYNAMIC_TOPIC_CONFIG", () -> retention(a, r));
    settled("alter config", "done", () -> done(a.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "7200000"), AlterConfigOp.OpType.SET)))).all()));
    settled("describe it again", "7200000 DYNAMIC_TOPIC_CONFIG", () -> retention(a, r));
    step("describe broker config", () -> a.describeConfigs(List.of(b)).all().get().get(b).get("node.id").value());
    step("alter broker config", () -> done(a.incrementalAlterConfigs(Map.of(b, List.of(new AlterConfigOp(new ConfigEntry("log.cleaner.threads", "1"), AlterConfigOp.OpType.SET)))).all()));
    step("describe log dirs", () -> a.describeLogDirs(List.of(1, 2, 3)).allDescriptions().get().keySet());
    ClientQuotaEntity who = new ClientQuotaEntity(Map.of("client-id", topic));
    step("alter quota", () -> done(a.alterClientQuotas(List.of(new ClientQuotaAlteration(who, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 1e9))))).all()));
    settled("describe quotas", "{producer_byte_rate=1.0E9}", () -> a.describeClientQuotas(ClientQuotaFilter.all()).entities().get().get(who));
  }

  private static void records(Admin a) {
    TopicPartition tp = new TopicPartition(topic, 4);
    settled("list offsets", "0", () -> a.listOffsets(Map.of(tp, OffsetSpec.latest())).all().get().get(tp).offset());
    step("list offsets by time", () -> a.listOffsets(Map.of(tp, OffsetSpec.forTimestamp(1))).all().get().get(tp).offset());
    step("delete records", () -> a.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(0))).lowWatermarks().get(tp).get().lowWatermark());
    step("describe producers", () -> a.getClass().getMethod("describeProducers", Collection.class).invoke(a, List.of(tp)) != null);
  }

  private static void groups(Admin a) {
    TopicPartition tp = new TopicPartition(topic, 1);
    settled("alter offsets", "done", () -> done(a.alterConsumerGroupOffsets(group, Map.of(tp, new OffsetAndMetadata(0, "words"))).all()));
    step("list groups", () -> a.listConsumerGroups().all().get().stream().anyMatch(g -> g.groupId().equals(group)));
    step("describe group", () -> {
      ConsumerGroupDescription d = a.describeConsumerGroups(List.of(group)).all().get().get(group);
      return d.members().size() + " members, coordinator is one: " + (d.coordinator().id() > 0);
    });
    step("fetch offsets", () -> new TreeMap<>(Map.of(1, a.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(tp).metadata())));
    step("delete offsets", () -> done(a.deleteConsumerGroupOffsets(group, Set.of(tp)).all()));
    step("delete group", () -> done(a.deleteConsumerGroups(List.of(group)).all()));
    step("delete it again", () -> done(a.deleteConsumerGroups(List.of(group)).all()));
  }

  private static void rights(Admin a) {
    AclBinding rule = new AclBinding(new ResourcePattern(ResourceType.TOPIC, topic, PatternType.LITERAL), new AccessControlEntry("User:ann", "*", AclOperation.READ, AclPermissionType.ALLOW));
    step("create ACL", () -> done(a.createAcls(List.of(rule)).all()));
    settled("describe ACLs", "1", () -> a.describeAcls(rule.toFilter()).values().get().size());
    step("delete ACLs", () -> a.deleteAcls(List.of(rule.toFilter())).all().get().size());
    step("describe SCRAM", () -> a.describeUserScramCredentials().users().get());
  }
}
