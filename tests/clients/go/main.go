// franz-go: an independent implementation in Go that always negotiates the newest versions of the protocol.
package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

var seed = func() string {
	if address := os.Getenv("BOOTSTRAP"); address != "" {
		return address
	}
	return "127.0.0.1:9092"
}()

func unique(prefix string) string {
	return fmt.Sprintf("%s-%08x", prefix, rand.Uint32())
}

// check ends a test; runOne turns it into a FAIL line.
func check(err error, what string) {
	if err != nil {
		panic(fmt.Sprintf("%s: %v", what, err))
	}
}

func equal[T comparable](got, wanted T, what string) {
	if got != wanted {
		panic(fmt.Sprintf("%s: got %v, wanted %v", what, got, wanted))
	}
}

func client(options ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(seed)}, options...)...)
	check(err, "client")
	return made
}

func makeTopic(ctx context.Context, admin *kadm.Client, prefix string, partitions int32) string {
	name := unique(prefix)
	_, err := admin.CreateTopic(ctx, partitions, 1, nil, name)
	check(err, "create "+name)
	return name
}

// produce sends count records round robin over the partitions and waits for all of them.
func produce(ctx context.Context, topic string, count, partitions int, options ...kgo.Opt) {
	producer := client(append([]kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner())}, options...)...)
	defer producer.Close()
	var records []*kgo.Record
	for i := range count {
		records = append(records, &kgo.Record{
			Topic: topic, Partition: int32(i % partitions), Key: []byte{byte(i)}, Value: []byte(strconv.Itoa(i)),
			Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(strconv.Itoa(i))}},
		})
	}
	check(producer.ProduceSync(ctx, records...).FirstErr(), "produce")
}

// read polls until count records have come.
func read(ctx context.Context, source *kgo.Client, count int) (records []*kgo.Record) {
	for len(records) < count {
		fetches := source.PollFetches(ctx)
		check(fetches.Err(), fmt.Sprintf("fetch after %d records", len(records)))
		records = append(records, fetches.Records()...)
	}
	return records
}

func inOrder(records []*kgo.Record, count, partitions int) {
	equal(len(records), count, "records")
	next := map[int32]int{}
	for _, r := range records {
		index := next[r.Partition]*partitions + int(r.Partition)
		equal(string(r.Value), strconv.Itoa(index), fmt.Sprintf("value at %d/%d", r.Partition, r.Offset))
		equal(string(r.Headers[0].Value), strconv.Itoa(index), "header")
		equal(r.Offset, int64(next[r.Partition]), "offset")
		next[r.Partition]++
	}
}

func topicsLiveAndDie(ctx context.Context, admin *kadm.Client) {
	name := makeTopic(ctx, admin, "go-topic", 2)
	_, err := admin.CreateTopic(ctx, 1, 1, nil, name)
	equal(errors.Is(err, kerr.TopicAlreadyExists), true, fmt.Sprintf("second create refused (%v)", err))
	grown, err := admin.UpdatePartitions(ctx, 3, name)
	check(err, "grow")
	check(grown[name].Err, "grow")
	untilListed(ctx, admin, name, "three partitions", func(told kadm.TopicDetail) bool { return len(told.Partitions) == 3 })
	value := "4000000"
	_, err = admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &value}}, name)
	check(err, "alter config")
	configs, err := admin.DescribeTopicConfigs(ctx, name)
	check(err, "describe config")
	for _, config := range configs[0].Configs {
		if config.Key == "retention.ms" {
			equal(config.MaybeValue(), value, "retention.ms")
		}
	}
	_, err = admin.DeleteTopics(ctx, name)
	check(err, "delete")
	untilListed(ctx, admin, name, "gone", func(told kadm.TopicDetail) bool { return errors.Is(told.Err, kerr.UnknownTopicOrPartition) })
}

// untilListed waits: a change is acknowledged before every broker's metadata shows it.
func untilListed(ctx context.Context, admin *kadm.Client, name, what string, done func(kadm.TopicDetail) bool) {
	for {
		told, err := admin.ListTopics(ctx, name)
		check(err, "list until "+what)
		if done(told[name]) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func idempotentProduceAndConsume(ctx context.Context, admin *kadm.Client) {
	name := makeTopic(ctx, admin, "go-produce", 3)
	produce(ctx, name, 9000, 3)
	source := client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer source.Close()
	inOrder(read(ctx, source, 9000), 9000, 3)
}

func everyCodecAndAcks(ctx context.Context, admin *kadm.Client) {
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	for i, codec := range codecs {
		name := makeTopic(ctx, admin, "go-codec", 1)
		acks := kgo.LeaderAck()
		if i%2 == 0 {
			acks = kgo.AllISRAcks()
		}
		produce(ctx, name, 1000, 1, kgo.ProducerBatchCompression(codec), kgo.DisableIdempotentWrite(), kgo.RequiredAcks(acks))
		source := client(kgo.ConsumeTopics(name), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		inOrder(read(ctx, source, 1000), 1000, 1)
		source.Close()
	}
}

func offsetsAndDeletedRecords(ctx context.Context, admin *kadm.Client) {
	name := makeTopic(ctx, admin, "go-offsets", 1)
	before := time.Now().UnixMilli()
	produce(ctx, name, 100, 1)
	ends, err := admin.ListEndOffsets(ctx, name)
	check(err, "end offsets")
	end, _ := ends.Lookup(name, 0)
	equal(end.Offset, 100, "end")
	after, err := admin.ListOffsetsAfterMilli(ctx, before-1000, name)
	check(err, "offsets after")
	first, _ := after.Lookup(name, 0)
	equal(first.Offset, 0, "first after the start")
	wanted := kadm.Offsets{}
	wanted.Add(kadm.Offset{Topic: name, Partition: 0, At: 60})
	_, err = admin.DeleteRecords(ctx, wanted)
	check(err, "delete records")
	starts, err := admin.ListStartOffsets(ctx, name)
	check(err, "start offsets")
	start, _ := starts.Lookup(name, 0)
	equal(start.Offset, 60, "start")
	source := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{name: {0: kgo.NewOffset().At(5)}}),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer source.Close()
	equal(read(ctx, source, 40)[0].Offset, 60, "first offset after a reset")
}

func groupSharesCommitsAndIsDeleted(ctx context.Context, admin *kadm.Client) {
	name, group := makeTopic(ctx, admin, "go-group", 4), unique("go-group")
	produce(ctx, name, 400, 4)
	member := func() *kgo.Client {
		return client(kgo.ConsumeTopics(name), kgo.ConsumerGroup(group), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
			kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(500*time.Millisecond), kgo.DisableAutoCommit())
	}
	one := member()
	inOrder(read(ctx, one, 400), 400, 4)
	check(one.CommitUncommittedOffsets(ctx), "commit")

	// A second member takes a part; both have to poll for the rebalance to go through.
	two := member()
	pollBoth, stop := context.WithCancel(ctx)
	for _, source := range []*kgo.Client{one, two} {
		go func() {
			for pollBoth.Err() == nil {
				source.PollFetches(pollBoth)
			}
		}()
	}
	for shared := false; !shared; time.Sleep(100 * time.Millisecond) {
		check(ctx.Err(), "two partitions each")
		told, err := admin.DescribeGroups(ctx, group)
		check(err, "describe group")
		members := told[group].Members
		shared = told[group].State == "Stable" && len(members) == 2
		for _, m := range members {
			assigned, _ := m.Assigned.AsConsumer()
			shared = shared && assigned != nil && len(assigned.Topics) == 1 && len(assigned.Topics[0].Partitions) == 2
		}
	}
	stop()
	one.Close()
	two.Close()

	committed, err := admin.FetchOffsets(ctx, group)
	check(err, "fetch offsets")
	for p := range int32(4) {
		offset, _ := committed.Lookup(name, p)
		equal(offset.At, 100, fmt.Sprintf("committed of %d", p))
	}
	lags, err := admin.Lag(ctx, group)
	check(err, "lag")
	equal(lags[group].Lag.Total(), 0, "lag")
	for {
		deleted, err := admin.DeleteGroup(ctx, group)
		if err == nil && deleted.Err == nil {
			break
		}
		check(ctx.Err(), fmt.Sprintf("delete group (%v %v)", err, deleted.Err))
		time.Sleep(100 * time.Millisecond)
	}
	groups, err := admin.ListGroups(ctx)
	check(err, "list groups")
	_, there := groups[group]
	equal(there, false, "group still listed")
}

func runOne(name string, test func(context.Context, *kadm.Client)) (failed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	admin := kadm.NewClient(client())
	defer admin.Close()
	began := time.Now()
	defer func() {
		seconds := time.Since(began).Seconds()
		if why := recover(); why != nil {
			failed = true
			fmt.Printf("FAIL franz-go/%s: %s (%.1f s)\n", name, strings.ReplaceAll(fmt.Sprint(why), "\n", " "), seconds)
		} else {
			fmt.Printf("ok franz-go/%s (%.1f s)\n", name, seconds)
		}
	}()
	test(ctx, admin)
	return
}

func main() {
	tests := []struct {
		name string
		run  func(context.Context, *kadm.Client)
	}{
		{"topics_live_and_die", topicsLiveAndDie},
		{"idempotent_produce_and_consume", idempotentProduceAndConsume},
		{"every_codec_and_acks", everyCodecAndAcks},
		{"offsets_and_deleted_records", offsetsAndDeletedRecords},
		{"group_shares_commits_and_is_deleted", groupSharesCommitsAndIsDeleted},
	}
	failed := false
	for _, test := range tests {
		wanted := len(os.Args) == 1
		for _, part := range os.Args[1:] {
			wanted = wanted || strings.Contains(test.name, part)
		}
		if wanted {
			failed = runOne(test.name, test.run) || failed
		}
	}
	fmt.Println("end franz-go")
	if failed {
		os.Exit(1)
	}
}
