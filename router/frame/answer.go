package frame

import "encoding/binary"

// AnswerHeader is how many bytes [ParseAnswer] needs.
const AnswerHeader = sizeBytes + 4

// Answer is what each answer begins with. In a flexible version tags follow, which [AnswerTags] measures.
type Answer struct {
	// Size is the length of the frame in bytes, without the four of the size field.
	Size int
	// Correlation is that of the request.
	Correlation int32
}

// Body is how many bytes are behind the correlation id: the header's tags, if there are any, and the body.
func (a Answer) Body() int { return sizeBytes + a.Size - AnswerHeader }

// ParseAnswer parses the first [AnswerHeader] bytes of an answer of at most limit bytes. The error is a [*Short] or an [*Error].
func ParseAnswer(b []byte, limit int) (Answer, error) {
	if len(b) < AnswerHeader {
		return Answer{}, &Short{AnswerHeader}
	}
	size, err := checkSize(b, AnswerHeader-sizeBytes, limit)
	if err != nil {
		return Answer{}, err
	}
	return Answer{size, int32(binary.BigEndian.Uint32(b[4:]))}, nil
}

// AnswerTags returns how many bytes the tags at the start of b take, which is all that is behind a correlation id.
func AnswerTags(b []byte) (int, error) {
	n, err := tags(b, 0, len(b))
	if _, short := err.(*Short); short {
		return 0, badf(Header, "the answer ends inside its header's tags")
	}
	return n, err
}
