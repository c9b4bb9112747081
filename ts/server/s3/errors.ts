/**
 * One table of S3's errors: code, HTTP status, default message. The type of the table proves that it is total.
 * `errorDocument` is the body S3 clients parse; it never holds a path, a stack or another client's data.
 */
import { S3Error, type S3ErrorCode } from '../../store/errors.js'
import { element, XML_DECLARATION } from './xml_write.js'

interface ErrorEntry {
  status: number
  message: string
}

function entry(status: number, message: string): ErrorEntry {
  return { status, message }
}

export const ERROR_TABLE: Readonly<Record<S3ErrorCode, ErrorEntry>> = {
  AccessDenied: entry(403, 'Access Denied'),
  AuthorizationHeaderMalformed: entry(400, 'The authorization header you provided is invalid.'),
  AuthorizationQueryParametersError: entry(400, 'The authorization query parameters that you provided are not valid.'),
  BadDigest: entry(400, 'The Content-MD5 or checksum value that you specified did not match what the server received.'),
  BucketAlreadyExists: entry(409, 'The requested bucket name is not available. The bucket namespace is shared by all '
    + 'users of the system. Select a different name and try again.'),
  BucketAlreadyOwnedByYou: entry(409,
    'Your previous request to create the named bucket succeeded and you already own it.'),
  BucketNotEmpty: entry(409, 'The bucket you tried to delete is not empty.'),
  EntityTooLarge: entry(400, 'Your proposed upload exceeds the maximum allowed object size.'),
  EntityTooSmall: entry(400, 'Your proposed upload is smaller than the minimum allowed object size.'),
  ExpiredToken: entry(400, 'The provided token has expired.'),
  IllegalLocationConstraintException: entry(400,
    'The specified location constraint is incompatible with the region this request was sent to.'),
  IncompleteBody: entry(400, 'You did not provide the number of bytes specified by the Content-Length HTTP header.'),
  InternalError: entry(500, 'We encountered an internal error. Please try again.'),
  InvalidAccessKeyId: entry(403, 'The AWS access key ID that you provided does not exist in our records.'),
  InvalidArgument: entry(400, 'Invalid Argument'),
  InvalidBucketName: entry(400, 'The specified bucket is not valid.'),
  InvalidDigest: entry(400, 'The Content-MD5 or checksum value that you specified is not valid.'),
  InvalidLocationConstraint: entry(400, 'The specified location (Region) constraint is not valid.'),
  InvalidPart: entry(400, 'One or more of the specified parts could not be found. The part might not have been '
    + 'uploaded, or the specified entity tag might not have matched the part\'s entity tag.'),
  InvalidPartNumber: entry(416, 'The requested partnumber is not satisfiable'),
  InvalidPartOrder: entry(400,
    'The list of parts was not in ascending order. The parts list must be specified in order by part number.'),
  InvalidRange: entry(416, 'The requested range is not satisfiable'),
  InvalidRequest: entry(400, 'Invalid Request'),
  InvalidStorageClass: entry(400, 'The storage class that you specified is not valid.'),
  InvalidToken: entry(400, 'The provided token is malformed or otherwise not valid.'),
  InvalidURI: entry(400, 'The specified URI couldn\'t be parsed.'),
  KeyTooLongError: entry(400, 'Your key is too long'),
  MalformedTrailerError: entry(400, 'The request contained trailing data that was not well-formed or did not conform '
    + 'to our published schema.'),
  MalformedXML: entry(400,
    'The XML you provided was not well-formed or did not validate against our published schema'),
  MaxMessageLengthExceeded: entry(400, 'Your request was too large.'),
  MetadataTooLarge: entry(400, 'Your metadata headers exceed the maximum allowed metadata size.'),
  MethodNotAllowed: entry(405, 'The specified method is not allowed against this resource.'),
  MissingContentLength: entry(411, 'You must provide the Content-Length HTTP header.'),
  MissingRequestBodyError: entry(400, 'Request body is empty.'),
  MissingSecurityHeader: entry(400, 'Your request was missing a required header.'),
  NoSuchBucket: entry(404, 'The specified bucket does not exist'),
  NoSuchKey: entry(404, 'The specified key does not exist.'),
  NoSuchUpload: entry(404, 'The specified upload does not exist. The upload ID may be invalid, or the upload may '
    + 'have been aborted or completed.'),
  NotImplemented: entry(501, 'A header or query you provided implies functionality that is not implemented.'),
  NotModified: entry(304, 'Not Modified'),
  PreconditionFailed: entry(412, 'At least one of the pre-conditions you specified did not hold'),
  RequestHeaderSectionTooLarge: entry(400,
    'The request header and query parameters used to make the request exceed the maximum allowed size.'),
  RequestTimeTooSkewed: entry(403, 'The difference between the request time and the server\'s time is too large.'),
  RequestTimeout: entry(400, 'Your socket connection to the server was not read from or written to within the '
    + 'timeout period.'),
  ServiceUnavailable: entry(503, 'Service is unable to handle request.'),
  SignatureDoesNotMatch: entry(403, 'The request signature we calculated does not match the signature you provided. '
    + 'Check your key and signing method.'),
  SlowDown: entry(503, 'Please reduce your request rate.'),
  TooManyBuckets: entry(400, 'You have attempted to create more buckets than are allowed for each account.'),
  UnsupportedSignature: entry(400, 'The provided request is signed with an unsupported STS Token version or the '
    + 'signature version is not supported.'),
  XAmzContentChecksumMismatch: entry(400, 'The provided \'x-amz-checksum\' header does not match what was computed.'),
  XAmzContentSHA256Mismatch: entry(400,
    'The provided \'x-amz-content-sha256\' header does not match what was computed.'),
}

export function errorStatus(code: S3ErrorCode): number {
  return ERROR_TABLE[code].status
}

export function errorMessage(error: S3Error): string {
  return error.message === '' ? ERROR_TABLE[error.code].message : error.message
}

/** What every error document names besides the error. `resource`: the decoded path. */
export interface ErrorContext {
  resource: string
  requestId: string
  hostId: string
}

/** UTF-8 XML, with the extra fields between Message and Resource. */
export function errorDocument(error: S3Error, context: ErrorContext): string {
  let fields = ''
  for (const [name, value] of Object.entries(error.fields)) fields += element(name, value)
  return XML_DECLARATION + '<Error>' + element('Code', error.code) + element('Message', errorMessage(error)) + fields
    + element('Resource', context.resource) + element('RequestId', context.requestId)
    + element('HostId', context.hostId) + '</Error>'
}

/** Any thrown value as an S3Error; what is not one is InternalError, and says nothing of its cause to the client. */
export function toS3Error(thrown: unknown): S3Error {
  if (thrown instanceof S3Error) return thrown
  return new S3Error('InternalError', '', {}, {}, { cause: thrown })
}
