package sets

import "reflect"

// codesOf are the error codes of an answer, wherever they are. Of an answer with elements those of itself do not count.
func codesOf(m any) (codes []int16) {
	var visit func(v reflect.Value)
	visit = func(v reflect.Value) {
		inner := len(codes)
		for i := range v.NumField() {
			f := v.Field(i)
			for f.Kind() == reflect.Slice && f.Len() > 0 && f.Index(0).Kind() == reflect.Struct {
				for j := range f.Len() {
					visit(f.Index(j))
				}
				break
			}
		}
		if code := v.FieldByName("ErrorCode"); code.IsValid() && len(codes) == inner {
			codes = append(codes, int16(code.Int()))
		}
	}
	visit(reflect.ValueOf(m).Elem())
	return codes
}
