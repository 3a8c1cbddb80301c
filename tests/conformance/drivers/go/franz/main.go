// franz-go, which always negotiates the newest versions of the protocol.
package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/conformance/lines"
)

type member struct {
	client *kgo.Client
	topic  string
	// Offsets after what was polled.
	polled map[int32]kgo.EpochOffset

	lock     sync.Mutex
	assigned map[int32]bool
}

// A producer whose offsets come from a member is one client with it.
type producer struct {
	session *kgo.GroupTransactSession
	client  *kgo.Client
}

var (
	members   = map[string]*member{}
	producers = map[string]*producer{}
	codecs    = map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
	made *kadm.Client
)

func bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), lines.Timeout)
}

func client(options ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(lines.Bootstrap)}, options...)...)
}

func admin() *kadm.Client {
	if made == nil {
		client, err := client()
		if err != nil {
			panic(err)
		}
		made = kadm.NewClient(client)
	}
	return made
}

// administer is a verb that asks for something with a bound on its time.
func administer(verb func(context.Context, lines.Asked) (lines.Answer, error)) func(lines.Asked) (lines.Answer, error) {
	return func(a lines.Asked) (lines.Answer, error) {
		ctx, cancel := bounded()
		defer cancel()
		return verb(ctx, a)
	}
}

func createTopic(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	config := map[string]*string{}
	for name, value := range a.Config {
		config[name] = &value
	}
	_, err := admin().CreateTopic(ctx, a.Partitions, 1, config, a.Topic)
	return nil, err
}

func topics(ctx context.Context, _ lines.Asked) (lines.Answer, error) {
	told, err := admin().ListTopics(ctx)
	return lines.Answer{"topics": told.Names()}, err
}

func describeTopic(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().ListTopics(ctx, a.Topic)
	if err != nil {
		return nil, err
	}
	return lines.Answer{"partitions": len(told[a.Topic].Partitions)}, told[a.Topic].Err
}

func describeConfig(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().DescribeTopicConfigs(ctx, a.Topic)
	if err != nil {
		return nil, err
	}
	config := map[string]string{}
	for _, entry := range told[0].Configs {
		config[entry.Key] = entry.MaybeValue()
	}
	return lines.Answer{"config": config}, told[0].Err
}

func alterConfig(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	var altered []kadm.AlterConfig
	for name, value := range a.Config {
		altered = append(altered, kadm.AlterConfig{Op: kadm.SetConfig, Name: name, Value: &value})
	}
	told, err := admin().AlterTopicConfigs(ctx, altered, a.Topic)
	if err != nil {
		return nil, err
	}
	return nil, told[0].Err
}

func addPartitions(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().UpdatePartitions(ctx, a.Count, a.Topic)
	if err != nil {
		return nil, err
	}
	return nil, told[a.Topic].Err
}

func deleteRecords(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	offsets := kadm.Offsets{}
	offsets.AddOffset(a.Topic, a.Partition, a.Before, -1)
	told, err := admin().DeleteRecords(ctx, offsets)
	if err != nil {
		return nil, err
	}
	return nil, told.Error()
}

func deleteTopic(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	_, err := admin().DeleteTopic(ctx, a.Topic)
	return nil, err
}

func offsetAt(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	told, err := admin().ListOffsetsAfterMilli(ctx, a.Timestamp, a.Topic)
	if err != nil {
		return nil, err
	}
	found, _ := told.Lookup(a.Topic, 0)
	return lines.Answer{"offset": found.Offset}, found.Err
}

// A client, or a session.
type sender interface {
	ProduceSync(context.Context, ...*kgo.Record) kgo.ProduceResults
}

func send(source sender, a lines.Asked) ([]int64, error) {
	ctx, cancel := bounded()
	defer cancel()
	var records []*kgo.Record
	for _, record := range a.Records {
		sent := &kgo.Record{Topic: a.Topic, Partition: record.Partition, Key: lines.Bytes(record.Key), Value: lines.Bytes(record.Value)}
		if record.Timestamp != 0 {
			sent.Timestamp = time.UnixMilli(record.Timestamp)
		}
		for _, header := range record.Headers {
			sent.Headers = append(sent.Headers, kgo.RecordHeader{Key: *header[0], Value: lines.Bytes(header[1])})
		}
		records = append(records, sent)
	}
	offsets := []int64{}
	for _, result := range source.ProduceSync(ctx, records...) {
		if result.Err != nil {
			return nil, result.Err
		}
		offsets = append(offsets, result.Record.Offset)
	}
	return offsets, nil
}

func produce(a lines.Asked) (lines.Answer, error) {
	options := []kgo.Opt{kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[a.Codec]),
		kgo.ProducerBatchMaxBytes(10_000_000), kgo.UnknownTopicRetries(2)}
	if a.Acks != "all" {
		acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck()}[a.Acks]
		options = append(options, kgo.RequiredAcks(acks), kgo.DisableIdempotentWrite())
	}
	source, err := client(options...)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	offsets, err := send(source, a)
	return lines.Answer{"offsets": offsets}, err
}

func isolation(committed bool) kgo.Opt {
	if committed {
		return kgo.FetchIsolationLevel(kgo.ReadCommitted())
	}
	return kgo.FetchIsolationLevel(kgo.ReadUncommitted())
}

func open(a lines.Asked) (lines.Answer, error) {
	start := kgo.NewOffset().At(a.StartAt(-2, -1))
	reset, named := map[string]kgo.Offset{"earliest": kgo.NewOffset().AtStart(), "latest": kgo.NewOffset().AtEnd()}[a.Reset]
	if !named {
		reset = kgo.NoResetOffset()
	}
	opened := &member{topic: a.Topic, polled: map[int32]kgo.EpochOffset{}, assigned: map[int32]bool{0: true}}
	var err error
	opened.client, err = client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{a.Topic: {0: start}}), kgo.ConsumeResetOffset(reset),
		isolation(a.Committed))
	members[a.Member] = opened
	return nil, err
}

// changed keeps account of what the member has.
func (m *member) changed(has bool) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
		m.lock.Lock()
		defer m.lock.Unlock()
		for _, partition := range changed[m.topic] {
			if has {
				m.assigned[partition] = true
			} else {
				delete(m.assigned, partition)
			}
		}
	}
}

func join(a lines.Asked) (lines.Answer, error) {
	joined := &member{topic: a.Topic, polled: map[int32]kgo.EpochOffset{}, assigned: map[int32]bool{}}
	options := []kgo.Opt{kgo.ConsumerGroup(a.Group), kgo.ConsumeTopics(a.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(joined.changed(true)), kgo.OnPartitionsRevoked(joined.changed(false)),
		kgo.OnPartitionsLost(joined.changed(false)), kgo.HeartbeatInterval(500 * time.Millisecond), isolation(true)}
	if a.Protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer(), kgo.Balancers(kgo.RangeBalancer()))
	}
	var err error
	if made := producers[a.Producer]; made != nil {
		options = append(options, kgo.SeedBrokers(lines.Bootstrap), kgo.TransactionalID(a.Producer), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if made.session, err = kgo.NewGroupTransactSession(options...); err == nil {
			joined.client = made.session.Client()
		}
	} else {
		joined.client, err = client(append(options, kgo.DisableAutoCommit())...)
	}
	members[a.Member] = joined
	return nil, err
}

func poll(a lines.Asked) (lines.Answer, error) {
	m := members[a.Member]
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(a.Seconds*float64(time.Second)))
	defer cancel()
	fetches := m.client.PollRecords(ctx, a.Count)
	for _, failed := range fetches.Errors() {
		if !errors.Is(failed.Err, context.DeadlineExceeded) {
			return nil, failed.Err
		}
	}
	records := []lines.Record{}
	for _, record := range fetches.Records() {
		headers := [][2]*string{}
		for _, header := range record.Headers {
			headers = append(headers, [2]*string{&header.Key, lines.Text(header.Value)})
		}
		records = append(records, lines.Record{Partition: record.Partition, Offset: record.Offset, Key: lines.Text(record.Key),
			Value: lines.Text(record.Value), Headers: headers, Timestamp: record.Timestamp.UnixMilli()})
		m.polled[record.Partition] = kgo.EpochOffset{Epoch: record.LeaderEpoch, Offset: record.Offset + 1}
	}
	m.lock.Lock()
	defer m.lock.Unlock()
	assigned := []int32{}
	for partition := range m.assigned {
		assigned = append(assigned, partition)
	}
	return lines.Answer{"records": records, "assigned": assigned}, nil
}

func commit(ctx context.Context, a lines.Asked) (lines.Answer, error) {
	m := members[a.Member]
	var failed error
	m.client.CommitOffsetsSync(ctx, map[string]map[int32]kgo.EpochOffset{m.topic: m.polled},
		func(_ *kgo.Client, _ *kmsg.OffsetCommitRequest, told *kmsg.OffsetCommitResponse, err error) {
			failed = err
			if err == nil {
				failed = kerr.ErrorForCode(told.Topics[0].Partitions[0].ErrorCode)
			}
		})
	return nil, failed
}

func leave(a lines.Asked) (lines.Answer, error) {
	members[a.Member].client.Close()
	delete(members, a.Member)
	return nil, nil
}

func txnBegin(a lines.Asked) (lines.Answer, error) {
	p := producers[a.ID]
	if p.session != nil {
		return nil, p.session.Begin()
	}
	if p.client == nil {
		var err error
		if p.client, err = client(kgo.TransactionalID(a.ID), kgo.RecordPartitioner(kgo.ManualPartitioner())); err != nil {
			return nil, err
		}
	}
	return nil, p.client.BeginTransaction()
}

func txnSend(a lines.Asked) (lines.Answer, error) {
	var source sender = producers[a.ID].client
	if session := producers[a.ID].session; session != nil {
		source = session
	}
	_, err := send(source, a)
	return nil, err
}

func txnEnd(commit kgo.TransactionEndTry) func(lines.Asked) (lines.Answer, error) {
	return administer(func(ctx context.Context, a lines.Asked) (lines.Answer, error) {
		p := producers[a.ID]
		if p.session == nil {
			return nil, p.client.EndTransaction(ctx, commit)
		}
		committed, err := p.session.End(ctx, commit)
		if err == nil && committed != bool(commit) {
			err = errors.New("the group has rebalanced, so it was aborted")
		}
		return nil, err
	})
}

func txnClose(a lines.Asked) (lines.Answer, error) {
	// With a session, the member is the client, and closed as such.
	if p := producers[a.ID]; p.session == nil && p.client != nil {
		p.client.Close()
	}
	delete(producers, a.ID)
	return nil, nil
}

func main() {
	lines.Serve(lines.Verbs{
		"about": func(lines.Asked) (lines.Answer, error) {
			return lines.Answer{"client": "franz-go " + lines.Version("github.com/twmb/franz-go")}, nil
		},
		"create_topic": administer(createTopic), "topics": administer(topics), "describe_topic": administer(describeTopic),
		"describe_config": administer(describeConfig), "alter_config": administer(alterConfig),
		"add_partitions": administer(addPartitions), "delete_records": administer(deleteRecords), "delete_topic": administer(deleteTopic),
		"produce": produce, "offset_at": administer(offsetAt),
		"open": open, "join": join, "poll": poll, "commit": administer(commit), "leave": leave,
		"txn_open": func(a lines.Asked) (lines.Answer, error) {
			producers[a.ID] = &producer{}
			return nil, nil
		},
		"txn_begin": txnBegin, "txn_send": txnSend, "txn_commit": txnEnd(kgo.TryCommit), "txn_abort": txnEnd(kgo.TryAbort),
		"txn_close": txnClose,
		// The session commits what its client has polled when the transaction ends.
		"txn_offsets": func(lines.Asked) (lines.Answer, error) { return nil, nil },
	}, func(err error) (int16, bool) {
		var coded *kerr.Error
		if !errors.As(err, &coded) {
			return 0, false
		}
		return coded.Code, true
	})
}
