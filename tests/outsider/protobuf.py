"""Protocol buffers, as far as EnrollRequest and EnrollResponse need them."""


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, data):
    """A field of bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def fields(message):
    """(number, value) of each field; a value is bytes or a number."""
    at = 0

    def read_varint():
        nonlocal at
        number = shift = 0
        while True:
            byte = message[at]
            at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return number

    while at < len(message):
        key = read_varint()
        if key & 7 == 0:
            yield key >> 3, read_varint()
        elif key & 7 == 2:
            length = read_varint()
            yield key >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError(f"wire type {key & 7}")
