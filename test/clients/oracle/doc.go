// Package oracle says what the programs of test/clients may write and judges what they wrote: against what is stored, whatever is in between.
//
// A program is one client of one library. Its arguments are key=value, what it has to say are JSON objects, one a line, on standard output (see Event):
//
//	role=produce bootstrap=HOST:PORT[,…] topic=T partitions=3 kind=idempotent|acks1|acks0|transactional from=0 records=300 rate=0 batch=50 txid=X
//	role=consume bootstrap=… topic=T partitions=3 mode=eager|cooperative|kip848|static|assign group=G instance=I seek=0
//	role=admin   bootstrap=… topic=T group=G
//	role=streams bootstrap=… topic=T output=O group=G
//
// A producer writes the ids from … from+records−1, key and value the id in digits, id % partitions its partition, rate a second (0 is as fast as it goes). With
// kind=transactional it does so in transactions of batch records and aborts every third. A consumer reads committed records, commits what it read before
// it asks for more and before it gives a partition up. Whoever reads ends in order (leaves the group, unless mode=static) when standard input ends; a
// producer then stops early. What the library says of a failure goes out as it is: the error's own text.
package oracle
